"""Whatever lies in a home instead of what was written there is told in a sentence with its name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from havre.auth import keys, metrics_token
from havre.auth.identity import home_id, load_or_create
from havre.auth.signer import Signer
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.table import read_table
from havre.domain.errors import HavreError, StateUnavailable, Unavailable
from havre.environments.confinement import Enclosure
from havre.environments.definition import ExternalEnvironment
from havre.environments.published import Published, PublishedEnvironments
from havre.environments.resolve import Available
from havre.home import Home
from havre.operate.connection import connect
from havre.settings import load_settings
from havre.store.database import Database, sqlite_url
from havre.supervisor import server_file
from havre.telemetry.files import retention
from havre.telemetry.logs.offsets import Offsets
from havre.telemetry.metrics.collector import _read_state
from havre.telemetry.metrics.figures import Figures, read_figures
from havre.telemetry.otlp.logs import _Progress

DAMAGE = {
    "empty": b"",
    "torn": b'{"tenancy_ocid": "ocid1',
    "zeros": b"\0" * 64,
    "not text": b"\xff\xfe\x80",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "nothing in it": b"{}",
    "other types": b'{"tenancy_ocid": 1, "user_ocid": [], "project_ocid": null, "url": 3,'
    b' "routes": [1], "unconfirmed": 5, "host": 1, "port": "x", "asked": 3}',
    "deep": b"[" * 100_000,
}


def sign(home: Home) -> None:
    Signer(home, load_or_create(home))


def open_database(home: Home) -> None:
    database = Database(sqlite_url(home.database))
    try:
        database.migrate()
    finally:
        database.close()


READERS: dict[str, Callable[[Home], object]] = {
    "identity.json": load_or_create,
    "home_id": home_id,
    "server.json": server_file.read,
    "keys/commands.pem": sign,
    "load-balancer/routes.json": lambda home: read_table(Files(home)),
    "environments/published/mine.json": lambda home: PublishedEnvironments(
        home, Enclosure(home)
    ).get("mine"),
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    (home.environments / "published").mkdir()
    return home


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_sentence_with_its_name_and_a_remedy(
    home: Home, name: str, damage: str
) -> None:
    path = home.root / name
    path.write_bytes(DAMAGE[damage])
    with pytest.raises(HavreError) as told:
        READERS[name](home)
    assert f"{path} is damaged" in told.value.message
    assert any(word in told.value.message for word in ("restore", "remove", "publish"))
    assert "\n" not in told.value.message
    assert path.read_bytes() == DAMAGE[damage], "it is left for whoever mends it"


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_its_place_is_a_sentence_too(home: Home, name: str) -> None:
    (home.root / name).mkdir()
    with pytest.raises(HavreError, match="is damaged"):
        READERS[name](home)


@pytest.mark.parametrize("damage", ["torn", "zeros", "not text", "deep"])
def test_a_damaged_database_is_a_sentence(home: Home, damage: str) -> None:
    home.database.write_bytes(DAMAGE[damage])
    with pytest.raises(StateUnavailable) as told:
        open_database(home)
    assert f"the database {home.database} is damaged" in told.value.message
    assert "backup" in told.value.message


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_database_that_lost_its_end_is_a_sentence(home: Home, kept: float) -> None:
    open_database(home)
    content = home.database.read_bytes()
    home.database.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(StateUnavailable, match=r"is damaged .*malformed"):
        open_database(home)


def test_a_metrics_token_that_is_no_text_is_a_sentence(home: Home) -> None:
    home.metrics_token.write_bytes(DAMAGE["not text"])
    with pytest.raises(HavreError, match="metrics_token is damaged"):
        metrics_token.load_or_create(home)


@pytest.mark.parametrize(
    "content",
    [
        *(b"\xff\xfe", b"port =", b"= 1", b"port = [1]", b"port = {}", b"port = 1e400"),
        *(
            b"max_queue_wait_s = nan",
            b"max_queue_wait_s = inf",
            b"auth = 1979-05-27",
            b"host = [[[[" * 999,
        ),
        *(b"unknown_setting = 1", b"port = 'x'", b"start_timeout_s = [1.0]"),
    ],
)
def test_damaged_settings_are_a_sentence(home: Home, content: bytes) -> None:
    (home.root / "havre.toml").write_bytes(content)
    with pytest.raises(HavreError, match=r"havre\.toml"):
        load_settings(home.root, environ={})


def test_settings_that_cannot_be_read_are_a_sentence(home: Home) -> None:
    (home.root / "havre.toml").mkdir()
    with pytest.raises(HavreError, match=r"havre\.toml cannot be read"):
        load_settings(home.root, environ={})


@pytest.mark.parametrize("damage", DAMAGE)
def test_commands_say_what_to_do_about_a_damaged_address(home: Home, damage: str) -> None:
    home.server_file.write_bytes(DAMAGE[damage])
    with pytest.raises(HavreError, match=r"server\.json is damaged.*`havre up`"):
        connect(home)


def test_a_key_that_is_no_rsa_key_does_not_sign(home: Home) -> None:
    shutil.copy(keys.register(home, "ocid1.user", keys.new_key().public_key()), home.keys / "x")
    (home.keys / "x").rename(home.keys / "commands.pem")
    with pytest.raises(HavreError, match=r"commands\.pem is damaged"):
        sign(home)


@pytest.mark.parametrize("damage", DAMAGE)
def test_how_long_logs_are_kept_is_written_anew(home: Home, damage: str) -> None:
    (home.telemetry / "retention.json").write_bytes(DAMAGE[damage])
    publisher = retention.RetentionPublisher(home, dict)
    publisher.publish()
    assert retention.read(home) == {}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_telemetry_remembers_begins_anew(home: Home, damage: str) -> None:
    (home.telemetry / "metrics").mkdir()
    for name in ("metrics/state.json", "positions.json", "otlp.json"):
        (home.telemetry / name).write_bytes(DAMAGE[damage])
    assert read_figures(home) == Figures()
    assert _read_state(DAMAGE[damage]) is None
    assert Offsets.load(home.telemetry, 7) == Offsets(born_ms=7, at_ms=7)
    assert _Progress.load(home.telemetry / "otlp.json", 7) == _Progress(since_ms=7)


def test_one_damaged_environment_costs_no_other(home: Home) -> None:
    published = PublishedEnvironments(home, Enclosure(home))
    whole = ExternalEnvironment("whole", "3.11", Path("/opt/whole"), "used in place")
    published.put(Published(whole, (), 0.0))
    (home.environments / "published" / "torn.json").write_bytes(DAMAGE["torn"])
    available = Available(published.definitions(), {}, lambda _: True)
    assert available.published["whole"] == whole
    assert sorted(available.published) == ["torn", "whole"]
    assert "torn" in available.published
    assert available.published.get("never") is None
    with pytest.raises(Unavailable, match=r"torn\.json is damaged"):
        available.published.get("torn")
    assert [record.definition for record in published.readable()] == [whole]


def test_an_address_whose_supervisor_is_not_named_is_whole(home: Home) -> None:
    home.server_file.write_text(json.dumps({"host": "h", "port": 1, "url": "u"}))
    assert server_file.read(home)["port"] == 1
    assert server_file.running_supervisor(home) is None


@pytest.mark.parametrize("part", ["counters", "deployments"])
def test_figures_of_another_shape_are_as_none(home: Home, part: str) -> None:
    stored = {**Figures().to_json(), part: [1]}
    (home.telemetry / "metrics").mkdir()
    (home.telemetry / "metrics" / "state.json").write_text(json.dumps({"figures": stored}))
    assert read_figures(home) == Figures()
