"""Small artifacts made by hand, for what needs no framework."""

import io
import zipfile
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

IRIS_ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5]]
IRIS_ANSWER = {"prediction": ["setosa", "versicolor", "virginica"]}

DOUBLE = """
def load_model():
    return 2

def predict(data, model=load_model()):
    return {"prediction": [model * number for number in data]}
"""

UNLOADABLE = """
def load_model():
    raise OSError("weights.bin is missing")

def predict(data, model=load_model()):
    return model
"""

TRIPLE = DOUBLE.replace("return 2", "return 3")

STREAM = """
from pathlib import Path

def load_model():
    return None

def predict(data, model=load_model()):
    return words(data)

def words(data):
    for word in data["words"]:
        yield {"word": word}
"""


def zipped(files: dict[str, str | bytes]) -> bytes:
    """An archive of these files, by path."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return held.getvalue()


def scored(score: str, **files: str | bytes) -> bytes:
    """An archive of a score.py and whatever else."""
    return zipped({"score.py": score, **files})


def folder(into: Path, files: dict[str, str]) -> Path:
    """The same as a folder, for commands that take one."""
    into.mkdir(parents=True)
    for path, content in files.items():
        (into / path).write_text(content)
    return into


def packed(source: Path) -> bytes:
    """An archive of a folder."""
    files = (path for path in sorted(source.rglob("*")) if path.is_file())
    return zipped({str(path.relative_to(source)): path.read_bytes() for path in files})
