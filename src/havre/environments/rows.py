"""What the list of environments shows: a row each."""

from dataclasses import dataclass
from pathlib import Path

BUILT_IN = "built-in"
PUBLISHED = "published"
PACK = "pack"
EXTERNAL = "in place"
OBJECT = "object"
ARTIFACT = "artifact"
EARLIER = "earlier"


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """One line of the list. ``kind`` is built-in, published, pack, in place, artifact or earlier.

    ``artifact`` was built from an artifact's requirements; ``earlier`` is what is left of a
    definition that has been replaced, and may still be in use. A ``pack`` was published, an
    ``object`` is a pack that an artifact named in the object store.
    ``prefix`` is where it is built, None if it is not; ``needs`` is what this machine has not of
    what it runs on: ``Python 3.8``, ``a GPU``, or empty.
    """

    slug: str
    kind: str
    python: str
    title: str
    requirements: tuple[str, ...]
    needs: str
    prefix: Path | None
