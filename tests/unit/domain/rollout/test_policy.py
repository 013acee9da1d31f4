import pytest

from havre.domain.errors import InvalidParameter
from havre.domain.rollout.policy import Canary, Capture, Replay, RolloutPolicy, Step, read_policy


@pytest.mark.parametrize(
    ("text", "replay"),
    [
        ("", None),
        ("off", None),
        ("50", Replay(50)),
        ("1000 equal=95%", Replay(1000, equal=0.95)),
        (" 7  slowdown=1.5 equal=100% ", Replay(7, equal=1.0, slowdown=1.5)),
        ("5 tolerance=1e-6", Replay(5, tolerance=1e-6)),
        ("5 tolerance=0", Replay(5, tolerance=0.0)),
    ],
)
def test_replays(text, replay):
    assert read_policy({"havre-replay": text}) == RolloutPolicy(replay=replay)


@pytest.mark.parametrize(
    ("text", "canary"),
    [
        ("", None),
        ("off", None),
        ("5%/30s", Canary((Step(5, 30.0),))),
        ("5%/0.5s 25%/5m 99%/2h", Canary((Step(5, 0.5), Step(25, 300.0), Step(99, 7200.0)))),
        ("10%/60s errors=0.5% slowdown=3", Canary((Step(10, 60.0),), errors=0.005, slowdown=3.0)),
        ("slowdown=3 10%/60s", Canary((Step(10, 60.0),), slowdown=3.0)),
        ("10%/60s wait=1h", Canary((Step(10, 60.0),), wait_s=3600.0)),
    ],
)
def test_canaries(text, canary):
    assert read_policy({"havre-canary": text}) == RolloutPolicy(canary=canary)


@pytest.mark.parametrize(
    ("tags", "capture"),
    [
        ({}, Capture()),
        ({"havre-capture": "off"}, Capture()),
        ({"havre-capture-redact": "name"}, Capture()),
        ({"havre-capture": "5"}, Capture(5.0)),
        ({"havre-capture": "100", "havre-capture-redact": ""}, Capture(100.0)),
        (
            {"havre-capture": "0.1", "havre-capture-redact": "name, home address ,e"},
            Capture(0.1, ("name", "home address", "e")),
        ),
    ],
)
def test_captures(tags, capture):
    assert read_policy(tags) == RolloutPolicy(capture=capture)


@pytest.mark.parametrize(
    ("tag", "text", "right"),
    [
        *(
            ("havre-replay", text, '"50 equal=95% slowdown=2"')
            for text in (
                "0", "1001", "-5", "5.5", "many", "50 equal=95", "50 equal=101%", "50 errors=1%",
                "50 slowdown=0.5", "50 tolerance=1",
                "50 tolerance=nan", "50 equal=1% equal=2%", "equal=95%", "off 50", "٣",
            )
        ),
        *(
            ("havre-canary", text, '"5%/30s 25%/5m"')
            for text in (
                "5%", "5/30s", "0%/30s", "100%/30s", "5%/30", "5%/30d", "25%/30s 5%/30s",
                "5%/30s 5%/60s", "errors=1%", "5%/25h", "5%/30s errors=1", "5%/30s equal=9%",
                "5%/30s off", "5%/30s, 25%/30s", "5%/-3s",
                "5%/0s", "5%/0.000m", "5%/3s wait=0s", "5%/3s wait=25h",
            )
        ),
        ("havre-idempotent", "yes", '"true" or "false"'),
        *(
            ("havre-capture", text, '"5" or "0.1"')
            for text in ("", "0", "0.0", "-5", "101", "5%", "many", "1e1", "nan", "٣")
        ),
        *(
            ("havre-capture-redact", text, '"name, email"')
            for text in (",", "a,", "a,,b", ",".join("a" * 65))
        ),
    ],
)  # fmt: skip
def test_a_wrong_text_is_refused_with_a_right_one(tag, text, right):
    with pytest.raises(InvalidParameter) as refused:
        read_policy({tag: text})
    assert tag in refused.value.message
    assert repr(text) in refused.value.message
    assert right in refused.value.message


def test_all_problems_are_told_at_once():
    with pytest.raises(InvalidParameter) as refused:
        read_policy({"havre-replay": "x", "havre-canary": "y", "havre-idempotent": "z"})
    assert len(refused.value.problems) == 3


def test_settings_stand_in_for_tags_that_are_not_there():
    defaults = {"replay": "9", "canary": "5%/1s"}
    assert read_policy({}, **defaults).replay == Replay(9)
    assert read_policy({"havre-canary": "off"}, **defaults).canary is None
    assert read_policy({"havre-replay": "3", "team": "x"}, **defaults).replay == Replay(3)
    assert read_policy({"havre-idempotent": "true"}).is_idempotent


def test_the_shares_of_a_canary_follow_each_other():
    canary = Canary((Step(5, 1.0), Step(25, 2.0)))
    assert [canary.after(percent) for percent in (0, 5, 10, 25, 60)] == [5, 25, 25, 100, 100]
    assert [canary.pause_of(percent) for percent in (5, 10, 25)] == [1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("tag", "meant"),
    [
        ("havre-canry", "havre-canary"),
        ("Havre-Canary", "havre-canary"),
        ("havre_canary", "havre-canary"),
        ("havrecanary", "havre-canary"),
        ("havre-Replay", "havre-replay"),
        ("havre.replay", "havre-replay"),
        ("havre-capture-redacted", "havre-capture-redact"),
        ("HAVRE-CAPTURE", "havre-capture"),
        ("havre-idempotency", "havre-idempotent"),
        ("havre-replay ", "havre-replay"),
    ],
)
def test_a_tag_that_looks_like_one_of_ours_is_refused_with_the_nearest(tag, meant):
    with pytest.raises(InvalidParameter, match=f"did you mean {meant}\\?"):
        read_policy({tag: "off"})


@pytest.mark.parametrize("tag", ["team", "canary", "le-havre", "project-havre", "", "replay"])
def test_other_tags_are_nobodys_business(tag):
    assert read_policy({tag: "x"}) == RolloutPolicy()
