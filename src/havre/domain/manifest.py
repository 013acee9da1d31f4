"""What an artifact says of the environment it wants: the part of runtime.yaml we need."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeManifest:
    """The inference environment that ``runtime.yaml`` names; every field may be empty.

    ``kind`` is ``data_science``, ``published`` or empty; ``path`` is an ``oci://`` address as
    written; ``python`` is two numbers, ``3.10``.
    """

    slug: str = ""
    kind: str = ""
    path: str = ""
    python: str = ""

    @property
    def names_environment(self) -> bool:
        return bool(self.slug or self.path)
