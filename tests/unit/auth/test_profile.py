import configparser
import stat
from pathlib import Path

import pytest
from oci.config import from_file, validate_config
from oci.signer import load_private_key_from_file

from havre.auth.identity import OciIdentity, load_or_create
from havre.auth.keys import fingerprint
from havre.auth.profile import merge, write_profile
from havre.domain.errors import InvalidParameter, SystemFault
from havre.home import Home

ENTRIES = {"user": "u", "region": "r"}
OTHERS = "# mine\n[DEFAULT]\nuser = me\nregion=%x\n\n[WORK]\n; a note\nuser=w\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def write(home: Home, file: Path, name: str = "HAVRE") -> None:
    write_profile(home, load_or_create(home), file=file, name=name, region="us-ashburn-1")


def test_the_identity_of_a_home_stays(home: Home) -> None:
    first = load_or_create(home)
    assert load_or_create(home) == first
    assert stat.S_IMODE((home.root / "identity.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"tenancy_ocid": 1}'])
def test_a_damaged_identity_is_never_replaced(home: Home, content: str) -> None:
    (home.root / "identity.json").write_text(content)
    with pytest.raises(SystemFault, match="damaged"):
        load_or_create(home)
    assert (home.root / "identity.json").read_text() == content


def test_the_sdk_takes_the_profile_and_its_key_is_registered(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "config"
    write(home, file)
    config = from_file(str(file), "HAVRE")
    validate_config(config)
    identity = load_or_create(home)
    assert (config["tenancy"], config["user"]) == (identity.tenancy_ocid, identity.user_ocid)
    key = load_private_key_from_file(config["key_file"])
    assert fingerprint(key.public_key()) == config["fingerprint"]
    registered = home.keys / identity.user_ocid / f"{config['fingerprint'].replace(':', '')}.pem"
    assert registered.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    for path in (file, Path(config["key_file"]), registered):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writing_again_keeps_the_key_and_other_profiles(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(OTHERS)
    write(home, file)
    once = file.read_text()
    assert once.startswith(OTHERS)
    write(home, file)
    assert file.read_text() == once
    write(home, file, name="SECOND")
    assert file.read_text().startswith(once)
    assert from_file(str(file), "HAVRE")["key_file"] != from_file(str(file), "SECOND")["key_file"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[P]\nuser=u\nregion=r\n"),
        ("[P]\nuser=old\npass_phrase=x\n", "[P]\nuser=u\nregion=r\n"),
        ("[A]\nx=1", "[A]\nx=1\n\n[P]\nuser=u\nregion=r\n"),
        ("[P]\nuser=old\n[A]\nx=1\n", "[P]\nuser=u\nregion=r\n\n[A]\nx=1\n"),
        ("[A]\nx=1\n[P]\nuser=old\n\n[B]\ny=2\n", "[A]\nx=1\n[P]\nuser=u\nregion=r\n\n[B]\ny=2\n"),
    ],
    ids=["empty", "alone", "after another", "before another", "between"],
)
def test_only_the_profile_itself_changes(before: str, after: str) -> None:
    assert merge(before, "P", ENTRIES) == after
    assert merge(after, "P", ENTRIES) == after
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(after)
    assert dict(parser["P"]) == ENTRIES


@pytest.mark.parametrize("content", ["user=nobody\n", "[A\n", "[A]\n[A]\n"])
def test_a_file_that_is_no_configuration_is_left_alone(
    home: Home, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(InvalidParameter, match="not an OCI configuration file"):
        write(home, file)
    assert file.read_text() == content


@pytest.mark.parametrize("name", ["", "a b", "x]", "../x", "a\nb"])
def test_a_name_that_cannot_head_a_profile_is_refused(
    home: Home, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidParameter, match="profile"):
        write(home, tmp_path / "config", name=name)


def test_a_foreign_file_in_the_keys_place_is_not_overwritten(home: Home, tmp_path: Path) -> None:
    (tmp_path / "config.HAVRE.pem").write_text("my poem")
    with pytest.raises(InvalidParameter, match="in the way"):
        write(home, tmp_path / "config")
    assert (tmp_path / "config.HAVRE.pem").read_text() == "my poem"


def test_an_identity_is_three_ids(home: Home) -> None:
    identity = load_or_create(home)
    assert isinstance(identity, OciIdentity)
    assert identity.tenancy_ocid.startswith("ocid1.tenancy.oc1..")
    assert identity.project_ocid.startswith("ocid1.datascienceproject.oc1.iad.")
