from pathlib import Path

import pytest

import havre
from havre.release import PACKAGES, Release, code_digest, current


def test_this_one_is_told_by_its_version_and_its_code() -> None:
    assert current().version == havre.__version__
    assert len(current().code) == 12
    assert Path(havre.__file__).is_file()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (Release("0.1.0", "a"), Release("0.2.0", "b"), "upgrading 0.1.0 → 0.2.0"),
        (Release("0.9.0", "a"), Release("0.10.0", "b"), "upgrading 0.9.0 → 0.10.0"),
        (Release("0.2.0", "a"), Release("0.1.9", "b"), "going back 0.2.0 → 0.1.9"),
        (
            Release("0.1.0", "a"),
            Release("0.1.0", "b"),
            "replacing 0.1.0 by other code of the same version",
        ),
    ],
)
def test_a_change_is_put_into_words(before: Release, after: Release, words: str) -> None:
    assert before.change_to(after) == words


def test_a_server_of_other_code_is_another_one() -> None:
    assert Release.of({"version": havre.__version__, "code": "another"}) != current()


def test_the_code_of_copies_counts(tmp_path: Path) -> None:
    folders = [tmp_path / "havre", tmp_path / "havre_copy"]
    for folder in folders:
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    before = code_digest(folders)
    (folders[1] / "__init__.py").write_text("changed = True")
    assert code_digest(folders) != before
    assert current().code == code_digest(
        Path(havre.__file__).parents[1] / name for name in PACKAGES
    )
