"""Objects in a folder laid out as buckets; what is no address finds nothing."""

from pathlib import Path

import pytest

from havre.domain.errors import EnvironmentFault
from havre.environments.object_store import ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    place = tmp_path / "objects" / "ns" / "my-bucket" / "conda" / "My env" / "1.0"
    place.mkdir(parents=True)
    (place / "envv1").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "objects" / "ns" / "my-bucket" / "way-out").symlink_to(tmp_path)
    return ObjectStore(str(tmp_path / "objects"))


@pytest.mark.parametrize("path", ["conda/My env/1.0/envv1", "conda/My%20env/1.0/envv1"])
def test_an_object_is_found_and_read(store: ObjectStore, path: str) -> None:
    address = f"oci://my-bucket@ns/{path}"
    found = store.find(address)
    assert found is not None
    assert found.size == len(b"content")
    with store.open(address) as file:
        assert file.read() == b"content"


def test_its_identity_changes_with_its_content(store: ObjectStore, tmp_path: Path) -> None:
    address = "oci://my-bucket@ns/conda/My env/1.0/envv1"
    before = store.find(address)
    assert store.find(address) == before
    (tmp_path / "objects/ns/my-bucket/conda/My env/1.0/envv1").write_bytes(b"other content")
    assert store.find(address) != before


@pytest.mark.parametrize(
    "address",
    [
        "oci://my-bucket@ns/conda/My env/1.0/other",
        "oci://my-bucket@ns/conda",
        "oci://other@ns/conda/My env/1.0/envv1",
        "oci://my-bucket@ns/../../../secret",
        "oci://my-bucket@ns/conda/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret",
        "oci://my-bucket@ns/way-out/secret",
        "oci://..@ns/secret",
        "oci://my-bucket@../secret",
        "oci://my-bucket@ns/",
        "https://somewhere/secret",
        "/etc/passwd",
        "",
    ],
)
def test_what_is_not_there_is_not_found(store: ObjectStore, address: str) -> None:
    assert store.find(address) is None
    with pytest.raises(EnvironmentFault), store.open(address):
        pass


class TestWhoseBuckets:
    """An artifact chooses the address of its pack: which ones it may name is the server's word."""

    REMOTE = "https://{namespace}.compat.objectstorage.example"

    def test_an_address_that_leads_to_anybodys_needs_the_setting(self) -> None:
        store, said = ObjectStore(self.REMOTE), r'object_store_allowed = \["theirs/packs"\]'
        with pytest.raises(EnvironmentFault, match=said):
            store.find("oci://packs@theirs/env")
        with pytest.raises(EnvironmentFault, match=said), store.open("oci://packs@theirs/env"):
            pass

    @pytest.mark.parametrize(
        ("allowed", "fits"),
        [
            (["ours/packs"], True),
            (["ours/*"], True),
            (["*/packs"], True),
            (["theirs/packs", "ours/p*"], True),
            (["ours/pack"], False),
            (["our/packs"], False),
            (["ours"], False),
        ],
    )
    def test_patterns_name_namespace_and_bucket(
        self, tmp_path: Path, allowed: list[str], fits: bool
    ) -> None:
        place = tmp_path / "ours" / "packs"
        place.mkdir(parents=True)
        (place / "env").write_bytes(b"x")
        store = ObjectStore(str(tmp_path), allowed)
        if fits:
            assert store.find("oci://packs@ours/env") is not None
        else:
            with pytest.raises(EnvironmentFault, match="may not be used"):
                store.find("oci://packs@ours/env")
