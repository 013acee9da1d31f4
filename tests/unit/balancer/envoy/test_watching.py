"""What Envoy is told where it cannot watch its files, and what the feed answers it."""

import json
import os
from pathlib import Path

import pytest

from havre.balancer.envoy import feed, watching
from havre.balancer.envoy.bootstrap import polls_feed, write_bootstrap
from havre.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.balancer.mkdir()
    return home


class Kernel:
    """Gives so many instances of inotify, and then none."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.given: list[int] = []

    def inotify_init1(self, flags: int) -> int:
        if len(self.given) >= self.count:
            return -1
        self.given.append(os.open(os.devnull, os.O_RDONLY))
        return self.given[-1]


@pytest.mark.parametrize(("count", "is_enough"), [(0, False), (7, False), (8, True)])
def test_a_few_instances_are_needed_and_all_given_back(
    monkeypatch: pytest.MonkeyPatch, count: int, is_enough: bool
) -> None:
    kernel = Kernel(count)
    monkeypatch.setattr(watching, "_libc", kernel)
    assert bool(watching.obstacle()) != is_enough
    for descriptor in kernel.given:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


@pytest.mark.parametrize("watches", [True, False])
def test_all_that_changes_comes_from_one_source(home: Home, watches: bool) -> None:
    write_bootstrap(home, host="127.0.0.1", port=1, watches=watches)
    bootstrap = json.loads((home.balancer / "bootstrap.json").read_text())
    listener = (home.balancer / "listeners.json").read_text()
    dynamic = json.dumps(bootstrap["dynamic_resources"])
    ours = ("path_config_source", "api_config_source")
    used, unused = ours if watches else reversed(ours)
    for text, count in ((dynamic, 2), (listener, 1)):
        assert (text.count(used), text.count(unused)) == (count, 0)
    assert ("static_resources" in bootstrap) != watches
    assert polls_feed(home) != watches


def test_without_a_bootstrap_nothing_asks(home: Home) -> None:
    assert not polls_feed(home)


def test_the_feed_answers_with_the_files(home: Home) -> None:
    write_bootstrap(home, host="127.0.0.1", port=1)
    files = feed.resources(home)
    for path, file in files.items():
        status, body = feed.response_to(files, path, "")
        assert (status, body) == (200, file.read_bytes())
        version = json.loads(body)["version_info"]
        assert feed.response_to(files, path, version) == (304, b"")
        assert feed.response_to(files, path, "another")[0] == 200


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_file_that_is_not_whole_changes_nothing(home: Home, content: str | None) -> None:
    files = feed.resources(home)
    if content is not None:
        (home.balancer / "clusters.json").write_text(content)
    assert feed.response_to(files, "/v3/discovery:clusters", "") == (503, b"")
    assert feed.response_to(files, "/v3/discovery:secrets", "") == (404, b"")


@pytest.mark.parametrize("question", [b"", b"{", b"[]", b"7", b"{}", b'{"version_info":null}'])
def test_a_strange_question_knows_no_version(question: bytes) -> None:
    assert feed._version(question) == ""
