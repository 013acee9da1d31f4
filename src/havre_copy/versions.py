"""Models that were saved with another version of a library than the environment has: advice.

Pickles name modules, classes and attributes of the library that wrote them. If these have changed
since, an import fails, an attribute is missing, or an array has another shape: while loading, or in
the first predict(). The version that saved the model is named if a file of the artifact holds it:
scikit-learn writes it into each estimator, XGBoost into each model.
"""

import mmap
import os
import re
import sys
import traceback

DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "numpy": "NumPy",
    "pandas": "pandas",
    "scipy": "SciPy",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
    "torch": "PyTorch",
    "joblib": "joblib",
    "imblearn": "imbalanced-learn",
    "statsmodels": "statsmodels",
    "tensorflow": "TensorFlow",
    "keras": "Keras",
}
"""Libraries whose objects people pickle, by the name they are imported by."""

_XGBOOST_BASE_SCORES = (3, 1)
"""From this version on base_score is a list; before, it was a number, and a list is read as 0."""
_MAX_TEXT_LENGTH = 4000
_MAX_FILES = 2000
_MAX_BYTES = 4 << 30
_SINCE = (
    # what is missing, the package that it belongs to, and the versions that save it
    ("_loss", "sklearn", ""),
    ("numpy._core", "numpy", "2.0 or newer"),
    ("sklearn.externals", "sklearn", "before 0.23"),
    ("pandas.core.indexes.numeric", "pandas", "before 2.0"),
)
_TEXTS = (
    (re.compile(r"node array from the pickle has an incompatible dtype"), "sklearn", ""),
    (re.compile(r"is not a known BitGenerator module"), "numpy", ""),
    (re.compile(r"state is not a legacy MT19937 state"), "numpy", ""),
)
_PYTHONS = (
    (re.compile(r"unsupported pickle protocol: 5"), "Python 3.8 or newer"),
    (re.compile(r"code(\(\))? (takes|expected) at (most|least) \d+ argument"), "another Python"),
    (re.compile(r"bad marshal data|unknown opcode"), "another Python"),
)
_LOST_ATTRIBUTE = re.compile(r"Can't get attribute '[^']+' on <module '([^']+)'")
_NO_ATTRIBUTE = re.compile(r"has no attribute '([^']+)'")
_SKLEARN_VERSION = re.compile(rb"_sklearn_version.{1,9}?(\d+\.\d+(?:\.\w+)*)", re.DOTALL)
_XGBOOST_VERSION = re.compile(
    rb'"version"\s*:\s*\[\s*(\d{1,4})\s*,\s*(\d{1,4})\b'
    rb"|version\[#L\0{7}\x03(?:i(.)i(.))",
    re.DOTALL,
)
_SIGNS_OF_XGBOOST = (b'"learner"', b"learner{")
_known = {}
_NO_MODELS = (".py", ".yaml", ".yml", ".txt", ".md", ".csv", ".parquet", ".ipynb")


def advice(error, artifact, has_module):
    """Half a sentence about one exception, or ``""``.

    ``has_module(module)``: whether the artifact has a module of that name itself.
    """
    text = str(error)[:_MAX_TEXT_LENGTH]
    for pattern, pythons in _PYTHONS:
        if isinstance(error, (ValueError, TypeError, EOFError, SystemError)) and pattern.search(
            text
        ):
            return (
                "the model was saved by %s, its inference environment has Python %d.%d: choose an "
                "environment of the same Python, or save the model again with this one"
                % ((pythons,) + sys.version_info[:2])
            )
    library = _library_of(error, text, has_module)
    return version_advice(library[0], artifact, library[1]) if library else ""


def version_advice(package, artifact, since=""):
    """Advice on a package whose versions differ; ``""`` if they are known to be the same."""
    name = DISTRIBUTIONS.get(package, package)
    installed = installed_version(package)
    saved = saved_with(package, artifact) or since
    if saved and saved == installed:
        return ""
    in_parentheses = " (%s)" % installed if installed else ""
    if not saved:
        return (
            "the model may have been saved with another version of %s than its inference "
            "environment has%s: choose an environment with the version that it was saved with, or "
            "save it again with this one" % (name, in_parentheses)
        )
    remedy = "choose an environment with %s, or save the model again" % (
        "that version" if saved[-1].isdigit() else "such a version"
    )
    return "the model was saved with %s %s, its inference environment has %s: %s" % (
        name,
        saved,
        installed or "another",
        remedy,
    )


def silently_wrong(artifact):
    """Why a model that has loaded would return wrong results without an error, or ``""``."""
    installed = _figures(installed_version("xgboost"))
    if not installed or installed >= _XGBOOST_BASE_SCORES:
        return ""
    for version, name in xgboost_models(artifact):
        if version >= _XGBOOST_BASE_SCORES:
            return (
                "%s was saved by XGBoost %d.%d, and the inference environment has %s, which reads "
                "it without an error and answers wrongly (versions before 3.1 do not know its "
                "base_score): choose an environment with XGBoost 3.1 or newer, or save the model "
                "again with this one" % ((name,) + version + (installed_version("xgboost"),))
            )
    return ""


def _figures(version):
    """``(major, minor)``; empty for none."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return tuple(int(figure) for figure in match.groups()) if match else ()


def installed_version(package):
    """The version of a package that has been imported; ``""`` if unknown."""
    module = sys.modules.get(package)
    version = getattr(module, "__version__", "")
    return version if isinstance(version, str) else ""


def saved_with(package, artifact):
    """The package's version according to a file of the artifact, or ``""``; cached."""
    if (package, artifact) not in _known:
        _known[package, artifact] = _saved_with(package, artifact)
    return _known[package, artifact]


def _saved_with(package, artifact):
    if package == "sklearn":
        names = {match.group(1).decode("ascii") for match in _search(artifact, _SKLEARN_VERSION)}
        return names.pop() if len(names) == 1 else ""
    if package == "xgboost":
        newest = max((version for version, _ in xgboost_models(artifact)), default=None)
        return "%d.%d" % newest if newest else ""
    return ""


def xgboost_models(artifact):
    """``[((major, minor), file name), …]`` of XGBoost's models in the artifact."""
    models = []
    for path, content in _models(artifact):
        # Its own format, or a pickle that holds it: JSON or UBJSON.
        if all(content.find(sign) < 0 for sign in _SIGNS_OF_XGBOOST):
            continue
        if content.find(b"gradient_booster") < 0:
            continue
        for match in _XGBOOST_VERSION.finditer(content, max(0, content.rfind(b"version") - 4096)):
            figures = [figure for figure in match.groups() if figure is not None]
            version = tuple(int(figure) if figure.isdigit() else figure[0] for figure in figures)
            models.append((version, os.path.relpath(path, artifact)))
    return models


def _library_of(error, text, has_module):
    """``(package, versions that save this way)`` for an exception that such a model causes, or
    None.
    """
    for pattern, package, since in _TEXTS:
        if isinstance(error, (ValueError, TypeError)) and pattern.search(text):
            return package, since
    lost = _LOST_ATTRIBUTE.search(text) if isinstance(error, AttributeError) else None
    module = lost.group(1) if lost else ""
    if isinstance(error, ModuleNotFoundError):
        module = error.name or ""
        for name, package, since in _SINCE:
            if module == name or module.startswith(name + "."):
                return package, since
        if "." not in module:
            return None  # a package that is not there at all
    if module and module != "__main__":
        package = module.partition(".")[0]
        return None if has_module(package) or package not in sys.modules else (package, "")
    if isinstance(error, AttributeError) and _NO_ATTRIBUTE.search(text):
        return _library_that_misses_its_own(error)
    return None


def _library_that_misses_its_own(error):
    """The same for an attribute that a library reads of its own object, but that its saved state
    does not have. Not for attributes that the model's own code reads.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames:
        return None
    frame = frames[-1]
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package not in DISTRIBUTIONS:
        return None
    if frame.f_code.co_name in ("__getattr__", "__getattribute__"):
        return None  # a column, for example, that the caller reads
    its = getattr(error, "obj", None)  # since 3.10
    if its is None:
        its = frame.f_locals.get("self")
        if not str(error).startswith("'%s' object" % type(its).__name__):
            return None
    whose = type(its).__module__.partition(".")[0] if its is not None else ""
    return (package, "") if whose == package else None


def _search(artifact, pattern):
    for _, content in _models(artifact):
        for match in pattern.finditer(content):
            yield match


def _models(artifact):
    """``(path, content)`` of files that may hold a model, as many as can be searched quickly."""
    left, files = _MAX_BYTES, _MAX_FILES
    for folder, folders, names in os.walk(artifact):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(_NO_MODELS):
                continue
            try:
                size = os.path.getsize(path)
                files -= 1
                left -= size
                if not size or left < 0 or files < 0 or not os.path.isfile(path):
                    continue
                with open(path, "rb") as file:
                    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                        yield path, content
            except (OSError, ValueError):
                continue
