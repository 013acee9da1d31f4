"""Who is measured: every folder is whole, and every version in it is exact."""

import re

import pytest
from bench.peers import HERE, UnknownName, chosen, servers

ASKED_FOR = {
    "havre",
    "granian",
    "fastapi",
    "mosec",
    "mosec-batched",
    "pytriton",
    "kserve",
    "torchserve",
    "litserve",
    "mlserver",
    "mlflow",
    "bentoml",
    "ray",
}


def test_everybody_is_there() -> None:
    assert set(servers()) >= ASKED_FOR


def test_every_folder_describes_a_server() -> None:
    described = {server.folder for server in servers().values()}
    assert {file.parent for file in HERE.glob("*/serve.py")} == described


@pytest.mark.parametrize("server", servers().values(), ids=lambda server: server.name)
def test_versions_are_exact(server) -> None:
    lines = server.requirements.read_text().splitlines()
    loose = [line for line in lines if not re.fullmatch(r"[\w.\-]+(\[[\w,]+\])?==\S+.*", line)]
    assert loose == []
    assert "scikit-learn==1.9.1" in lines


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"no server is called granite.*granian"):
        chosen(["granian", "granite"])


def test_batching_servers_are_only_measured_where_there_is_something_to_batch() -> None:
    assert not servers()["mosec-batched"].takes("steady")
    assert servers()["mosec"].takes("steady")
