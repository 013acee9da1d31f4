"""What an instance is confined to, as far as it is decided before anything runs."""

import os
from pathlib import Path

import pytest

from havre.domain.instance import InstanceSpec
from havre.domain.workload import PythonWorkload
from havre.engines import users
from havre.engines.confinement import (
    InstancePaths,
    Permissions,
    confinement_for,
    not_private,
    own_variables,
)
from havre.engines.users import Choice
from havre.home import Home
from havre.supervisor import account
from havre.supervisor.protocol import Confinement, User


@pytest.fixture
def spec(tmp_path: Path) -> InstanceSpec:
    return InstanceSpec(
        id="a" * 12,
        deployment_id="ocid1.a",
        revision="r1",
        workload=PythonWorkload(
            Path("/usr/bin/python3"), "3.11.7", tmp_path / "unpacked" / ("a" * 64)
        ),
        copies=1,
        cpus=1.0,
        memory_bytes=1 << 29,
        variables={"OMP_PROC_BIND": "true", "OMP_NUM_THREADS": "2"},
    )


@pytest.mark.parametrize(
    ("choice", "left_out"),
    [(Choice(), ("OMP_PROC_BIND",)), (Choice(user=User(70000, 70000)), ())],
)
def test_threads_are_pinned_where_its_user_is_its_own(
    spec: InstanceSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: Choice,
    left_out: tuple[str, ...],
) -> None:
    monkeypatch.setattr(users, "choose", lambda *_, **__: choice)
    made = confinement_for(spec, Home(tmp_path), tmp_path / "launch.py")
    assert made.left_out == left_out
    assert [note for note in made.notes if "OMP_PROC_BIND" in note] == [
        note for note in made.notes if left_out
    ]


def test_a_choice_and_the_settings_reach_the_supervisor(
    spec: InstanceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Choice(user=User(70000, 70000, (1,)), opened=("/closed",), refusal="why")
    monkeypatch.setattr(users, "choose", lambda *_, **__: chosen)
    made = confinement_for(
        spec, Home(tmp_path), tmp_path / "launch.py", Permissions(models_unix_sockets=True)
    )
    assert (made.refusal, made.confinement.opened) == ("why", ("/closed",))
    assert made.confinement.unix_sockets
    assert Confinement.from_json(
        {**vars_of(made.confinement), "user": {"uid": 70000, "gid": 70000, "groups": [1]}}
    ) == (made.confinement)


def vars_of(confinement: Confinement) -> dict[str, object]:
    return {name: getattr(confinement, name) for name in confinement.__dataclass_fields__}


def test_a_home_below_the_temporary_folder_says_what_is_not_private() -> None:
    [told] = not_private(Home(Path("/tmp/elsewhere/home")))
    assert told.startswith(
        "/tmp is the machine's, not the model's own, because the home lies below"
    )
    assert not_private(Home(Path("/srv/havre"))) == ()


def test_the_user_is_named_as_the_home_is(tmp_path: Path) -> None:
    paths = InstancePaths(tmp_path)
    told = own_variables(Confinement(user=User(90001, 90001)), paths)
    assert (told["HOME"], told["TMPDIR"]) == (str(paths.home), str(paths.temporary))
    assert told["USER"] == told["LOGNAME"] == account.name_of(90001)
    ours = own_variables(Confinement(), paths)
    assert ours["USER"] == account.name_of(os.geteuid())
