"""Names that users rely on change on purpose, or not at all."""

from tests.support.public_surface import FILE, surface


def test_no_public_name_changes_unnoticed() -> None:
    kept = FILE.read_text(encoding="utf-8").splitlines()
    assert surface().splitlines() == kept, "on purpose? `make surface` writes it down"
