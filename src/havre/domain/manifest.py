"""Which environment an artifact asks for: the part of runtime.yaml that we read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeManifest:
    """The inference environment that ``runtime.yaml`` names; every field may be empty.

    ``kind`` is ``data_science``, ``published`` or empty; ``path`` is an ``oci://`` address as
    written; ``python`` is two numbers, ``3.10``. ``warnings`` name what of the file is not read.
    """

    slug: str = ""
    kind: str = ""
    path: str = ""
    python: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def names_environment(self) -> bool:
        return bool(self.slug or self.path)
