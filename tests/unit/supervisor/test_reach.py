"""What of the machine foreign code may reach."""

from pathlib import Path

from havre.supervisor import reach


def test_root_reads_what_everybody_may_and_no_more(tmp_path: Path) -> None:
    files = {"open": 0o644, "closed": 0o640, "mixed/open": 0o604, "mixed/key": 0o600}
    files |= {"whole/a/b": 0o644, "shut/open": 0o644, "passed/open": 0o644}
    for name, mode in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(mode)
    for name, mode in {"mixed": 0o755, "whole": 0o755, "shut": 0o700, "passed": 0o711}.items():
        (tmp_path / name).chmod(mode)
    for path in (tmp_path, tmp_path / "whole" / "a"):
        path.chmod(0o755)
    (tmp_path / "link").symlink_to("closed")
    is_whole, parts = reach._open_parts(str(tmp_path), 16)
    assert not is_whole
    assert [str(Path(part).relative_to(tmp_path)) for part in parts] == [
        "mixed/open",
        "open",
        "passed/open",
        "whole",
    ]
