"""What people do wrong in an artifact, and the words each gets: while it loads, or when it is asked.

Data of ``tests/integration/test_mistakes.py``. The words are parts of the reason that a deployment
fails with, of the answer of a prediction, or of the verdict on ``runtime.yaml``.
"""

from dataclasses import dataclass, field

ASKED = "import os\ndef load_model():\n    return 1\n"
ECHO = "def predict(data):\n    return data\n"
NOT_THERE = "class {name}(Exception):\n    pass\n"
ELSEWHERE = "which is not the working folder: put os.path.dirname(__file__) before its name"


@dataclass(frozen=True)
class Mistake:
    """``files`` beside score.py. ``body`` is what it is asked, None if it cannot be loaded.

    ``told``: parts of the message, in any order; ``untold``: what must not be in it.
    """

    id: str
    score: str | bytes
    told: tuple[str, ...]
    untold: tuple[str, ...] = ()
    files: dict[str, str | bytes] = field(default_factory=dict)
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 500


def _raises(kind: str, text: str, *, within: str = "load_model", first: str = "") -> str:
    """A score.py whose library raises an exception of its own."""
    where = {"load_model": ("", "pass"), "predict": ("return 1", "")}[within]
    raised = f"raise {kind}({text!r})"
    return (
        f"{first}\nclass {kind}(Exception):\n    pass\n"
        f"def load_model():\n    {where[0] or raised}\n"
        f"def predict(data, model=load_model()):\n    {where[1] or raised}\n"
    )


LOADING = [
    Mistake("no predict", "def predit(data):\n    return data\n", ("has no predict function",)),
    Mistake("predict is no function", "predict = 'later'\n", ("not a function but of type str",)),
    Mistake(
        "predict wants more",
        "def predict(data, model):\n    pass\n",
        ("a default for every", "model"),
    ),
    Mistake(
        "syntax",
        "def predict(data:\n    return 1\n",
        ("score.py line 1", "SyntaxError"),
        ("Python 3",),
    ),
    Mistake(
        "a package that is nowhere",
        "import torchh\n" + ECHO,
        ("score.py line 1", "No module named 'torchh'", "choose an environment that has it"),
    ),
    Mistake(
        "a relative import",
        "from .features import x\n" + ECHO,
        ("import files beside it by name, without a dot",),
        files={"features.py": "x = 1"},
    ),
    Mistake(
        "sys.exit with words", "import sys\nsys.exit('no licence')\n", ("sys.exit", "no licence")
    ),
    Mistake("sys.exit with a code", "import sys\nsys.exit(3)\n", ("line 2", "sys.exit", ": 3")),
    Mistake("sys.exit", "import sys\nsys.exit()\n", ("(sys.exit)", "line 2"), (": None",)),
    Mistake(
        "an exception that wraps another",
        "def load_model():\n    try:\n        open('/nowhere/m.bin')\n    except OSError as error:\n"
        "        raise RuntimeError('cannot load') from error\nmodel = load_model()\n" + ECHO,
        ("RuntimeError: cannot load, caused by FileNotFoundError", "/nowhere/m.bin"),
    ),
    Mistake(
        "an exception while another is handled",
        "def load_model():\n    try:\n        {}['weights']\n    except KeyError:\n"
        "        raise RuntimeError('cannot load')\nmodel = load_model()\n" + ECHO,
        ("RuntimeError: cannot load, while handling KeyError: 'weights'",),
    ),
    Mistake(
        "an exception that hides another",
        "try:\n    {}['weights']\nexcept KeyError:\n    raise RuntimeError('no') from None\n",
        ("RuntimeError: no",),
        ("weights",),
    ),
    Mistake(
        "the same words twice",
        "try:\n    int('x')\nexcept ValueError as error:\n    raise RuntimeError(str(error))\n",
        ("RuntimeError: invalid literal for int()",),
        ("while handling",),
    ),
    Mistake(
        "a file of the artifact, opened",
        "def load_model():\n    return open('weights.bin')\n"
        "def predict(data, model=load_model()):\n    pass\n",
        ("No such file", "weights.bin is in the artifact", ELSEWHERE),
        files={"weights.bin": "1"},
    ),
    Mistake(
        "a folder of the artifact, listed",
        "import os\nos.listdir('data')\n" + ECHO,
        ("data is in the artifact", ELSEWHERE),
        files={"data/a.csv": "1"},
    ),
    Mistake(
        "a file looked for in a list of the working folder",
        "import os\nif 'model.pkl' not in os.listdir('.'):\n"
        "    raise Exception('model.pkl is not found in model directory .')\n",
        ("model.pkl is in the artifact", ELSEWHERE),
        files={"model.pkl": "1"},
    ),
    Mistake(
        "a path of the machine where it was made",
        "open('/home/datascience/work/data/weights.bin')\n",
        ("the artifact has data/weights.bin", "os.path.dirname(__file__)"),
        files={"data/weights.bin": "1"},
    ),
    Mistake(
        "a cause that lacks the file",
        "try:\n    open('weights.bin')\nexcept OSError as error:\n    raise RuntimeError('no') from error\n",
        ("RuntimeError: no", ELSEWHERE),
        files={"weights.bin": "1"},
    ),
    Mistake(
        "LightGBM's words",
        _raises("LightGBMError", "Could not open model.txt"),
        ("model.txt is in the artifact", ELSEWHERE),
        files={"model.txt": "1"},
    ),
    Mistake(
        "XGBoost's words",
        _raises(
            "XGBoostError",
            "[10:01:02] /w/dmlc-core/src/io/local_filesys.cc:210: Check failed: allow_null:  "
            "LocalFileSystem::Open 'model.json': No such file or directory",
        ),
        ("model.json is in the artifact", ELSEWHERE),
        files={"model.json": "1"},
    ),
    Mistake(
        "ONNX Runtime's words",
        _raises(
            "NoSuchFile",
            "[ONNXRuntimeError] : 3 : NO_SUCHFILE : Load model from model.onnx failed:Load model "
            "model.onnx failed. File doesn't exist",
        ),
        ("model.onnx is in the artifact", ELSEWHERE),
        files={"model.onnx": "1"},
    ),
    Mistake(
        "Keras' words",
        _raises("ValueErrorOfKeras", "File not found: filepath=model.keras. Please ensure"),
        ("model.keras is in the artifact", ELSEWHERE),
        files={"model.keras": "1"},
    ),
    Mistake(
        "a folder that a library takes for a name",
        _raises(
            "HubError", "bert is not a local folder and is not a valid model identifier './bert'"
        ),
        ("./bert is in the artifact", ELSEWHERE),
        files={"bert/config.json": "1"},
    ),
    Mistake(
        "SQLite, which makes an empty database",
        "import sqlite3\nDATABASE = 'items.db'\ndef load_model():\n"
        "    return sqlite3.connect(DATABASE).execute('select * from items').fetchall()\n"
        "def predict(data, model=load_model()):\n    pass\n",
        ("no such table: items", "items.db is in the artifact", ELSEWHERE),
        files={"items.db": b"SQLite format 3\0"},
    ),
    Mistake(
        "what has nothing to do with files",
        "HERE = __file__\nopen(HERE)\nraise ValueError('config.json has no key model.pkl')\n",
        ("ValueError: config.json has no key",),
        ("working folder",),
        files={"config.json": "1", "model.pkl": "1"},
    ),
    Mistake(
        "a database in the artifact, written to",
        "import os, sqlite3\nPATH = os.path.join(os.path.dirname(__file__), 'items.db')\n"
        "raise sqlite3.OperationalError('attempt to write a readonly database')\n",
        ("the artifact is read-only", "?mode=ro&immutable=1"),
    ),
    Mistake(
        "a file in the artifact, written to",
        "import os\nPATH = os.path.join(os.path.dirname(__file__), 'cache')\n"
        "raise PermissionError(13, 'Permission denied', PATH)\n",
        ("the artifact is read-only: write below HOME or TMPDIR",),
    ),
    Mistake(
        "HDF5's words on a file that it cannot write",
        "import os\nPATH = os.path.join(os.path.dirname(__file__), 'x.h5')\nraise OSError("
        "\"Unable to create file (unable to open file: name = '%s', errno = 13, "
        "error message = 'Permission denied')\" % PATH)\n",
        ("the artifact is read-only: write below HOME or TMPDIR",),
    ),
    Mistake("UTF-16", ECHO.encode("utf-16"), ("is in UTF-16", "save it as UTF-8")),
    Mistake(
        "UTF-16 without a mark", ECHO.encode("utf-16-le"), ("is in UTF-16", "save it as UTF-8")
    ),
    Mistake(
        "a module in UTF-16",
        "import features\n" + ECHO,
        ("features.py is in UTF-16", "save it as UTF-8"),
        files={"features.py": "x = 1\n".encode("utf-16")},
    ),
    Mistake(
        "a pickle of a notebook",
        "import pickle\npickle.loads(b'c__main__\\nLogs\\n.')\n",
        ("define it in a module beside score.py",),
    ),
    Mistake(
        "a pickle of another NumPy",
        "import sys, types\nsys.modules['numpy'] = types.ModuleType('numpy')\n"
        "sys.modules['numpy'].__version__ = '1.25.2'\nsys.modules['numpy'].__path__ = []\n"
        "import numpy._core.multiarray\n",
        ("saved with NumPy 2.0 or newer, its inference environment has 1.25.2",),
        ("neither the artifact",),
    ),
    Mistake(
        "a pickle of another scikit-learn: _loss",
        "import sys, types\nsys.modules['sklearn'] = types.ModuleType('sklearn')\n"
        "sys.modules['sklearn'].__version__ = '1.2.2'\nimport _loss\n",
        ("the model was saved with scikit-learn 1.5.0, its inference environment has 1.2.2",),
        ("neither the artifact",),
        files={"model.pkl": b"\x8c\x10_sklearn_version\x94\x8c\x051.5.0\x94"},
    ),
    Mistake(
        "a pickle of another scikit-learn: nodes",
        "import sys, types\nsys.modules['sklearn'] = types.ModuleType('sklearn')\n"
        "sys.modules['sklearn'].__version__ = '1.2.2'\n"
        "raise ValueError('node array from the pickle has an incompatible dtype:')\n",
        ("another version of scikit-learn than its inference environment has (1.2.2)",),
    ),
    Mistake(
        "a pickle of a newer Python",
        "raise ValueError('unsupported pickle protocol: 5')\n",
        ("saved by Python 3.8 or newer",),
    ),
    Mistake(
        "bytecode of another Python",
        "raise TypeError('code() takes at most 15 arguments (18 given)')\n",
        ("saved by another Python",),
    ),
    Mistake(
        "XGBoost of before 3.1 reads a later model",
        "import sys, types\nsys.modules['xgboost'] = types.ModuleType('xgboost')\n"
        "sys.modules['xgboost'].__version__ = '2.1.4'\n" + ECHO,
        ("model.json was saved by XGBoost 3.1", "has 2.1.4", "answers wrongly"),
        files={"model.json": '{"learner":{"gradient_booster":{}},"version":[3,1,1]}'},
    ),
    Mistake(
        "the same in UBJSON",
        "import sys, types\nsys.modules['xgboost'] = types.ModuleType('xgboost')\n"
        "sys.modules['xgboost'].__version__ = '3.0.5'\n" + ECHO,
        ("model.ubj was saved by XGBoost 3.2",),
        files={
            "model.ubj": b"{L"
            + b"\0" * 7
            + b"\7learner{L"
            + b"\0" * 7
            + b"\x10gradient_booster{}}L"
            + b"\0" * 7
            + b"\7version[#L"
            + b"\0" * 7
            + b"\3i\3i\2i\1}"
        },
    ),
    Mistake(
        "a segmentation fault",
        "import ctypes\ndef load_model():\n    ctypes.string_at(0)\nmodel = load_model()\n",
        ("Fatal Python error: Segmentation fault at score.py line 3 in load_model",),
    ),
    Mistake(
        "an abort",
        "import os\nos.abort()\n",
        ("Fatal Python error: Aborted at score.py line 2 in <module>",),
    ),
]

PREDICTING = [
    Mistake("no JSON", ECHO, ("the body is not JSON",), body=b"{", status=400),
    Mistake("nothing", ECHO, ("the body is empty",), body=b"", status=400),
    Mistake(
        "curl without a header",
        ECHO,
        ("application/x-www-form-urlencoded", "send the header 'content-type: application/json'"),
        body=b"[1]",
        headers={"content-type": "application/x-www-form-urlencoded"},
        status=415,
    ),
    Mistake(
        "a form",
        ECHO,
        ("multipart/form-data", "application/octet-stream"),
        body=b"--x--",
        headers={"content-type": "multipart/form-data; boundary=x"},
        status=415,
    ),
    Mistake(
        "a charset that there is not",
        ECHO,
        ("the charset utf-99 of its content-type is not known: send utf-8",),
        body=b"1",
        headers={"content-type": "application/json; charset=utf-99"},
        status=400,
    ),
    Mistake(
        "a codec that is no charset",
        ECHO,
        ("the charset rot13 of its content-type is not known",),
        body=b"1",
        headers={"content-type": "application/json; charset=rot13"},
        status=400,
    ),
    Mistake(
        "a body of another charset than stated",
        ECHO,
        ("the body is not ascii text: byte 1 is 0xe4",),
        body='"ä"'.encode("latin-1"),
        headers={"content-type": "application/json; charset=ascii"},
        status=400,
    ),
    Mistake(
        "text that is not UTF-8",
        ECHO,
        ("the body is not utf-8 text: byte 0 is 0xe4",),
        body=b"\xe4",
        headers={"content-type": "text/plain"},
        status=400,
    ),
    Mistake(
        "no JSON form",
        "class A: pass\ndef predict(data):\n    return A()\n",
        ("type A",),
        body=b"1",
    ),
    Mistake(
        "a column that is not there",
        "def predict(data):\n    return data['when']\n",
        ("KeyError: 'when'",),
        body=b"{}",
    ),
    Mistake(
        "a file of the artifact, in predict",
        "def predict(data):\n    return open('weights.bin')\n",
        ("weights.bin is in the artifact", ELSEWHERE),
        files={"weights.bin": "1"},
        body=b"1",
    ),
    Mistake(
        "an exception that wraps another, in predict",
        "def predict(data):\n    try:\n        data['a']\n    except KeyError as error:\n"
        "        raise RuntimeError('bad input') from error\n",
        ("RuntimeError: bad input, caused by KeyError: 'a'",),
        body=b"{}",
    ),
    Mistake(
        "sys.exit, in predict",
        "import sys\ndef predict(data):\n    sys.exit('bye')\n",
        ("SystemExit: bye",),
        body=b"1",
    ),
    Mistake(
        "an attribute that a library of another version wrote",
        "import sys, types\nsklearn = types.ModuleType('sklearn')\nsklearn.__version__ = '1.7.1'\n"
        "sys.modules['sklearn'] = sklearn\n"
        "exec(compile('class Imputer:\\n    def transform(self, data):\\n"
        "        return self._fill_dtype\\n', 'sklearn/impute.py', 'exec'), sklearn.__dict__)\n"
        "sklearn.Imputer.__module__ = sklearn.__name__\n"
        "def predict(data, model=sklearn.Imputer()):\n    return model.transform(data)\n",
        ("_fill_dtype", "saved with scikit-learn 1.2.2, its inference environment has 1.7.1"),
        files={"model.joblib": b"_sklearn_versionq\x01X\x05\0\0\x001.2.2"},
        body=b"1",
    ),
    Mistake(
        "an attribute that the author misspelled",
        "import sys, types\nsklearn = types.ModuleType('sklearn')\nsys.modules['sklearn'] = sklearn\n"
        "class Model: pass\nModel.__module__ = 'sklearn'\n"
        "def predict(data, model=Model()):\n    return model.predct(data)\n",
        ("has no attribute 'predct'",),
        ("another version", "saved with"),
        body=b"1",
    ),
]

MANIFESTS = [
    ("a tab", "a:\n\t- b", ("line 2, column 1", "a tab cannot indent YAML; use spaces")),
    ("text", "MODEL_DEPLOYMENT: now", ("must be a mapping, not a text",)),
    (
        "a list that does not end",
        "MODEL_DEPLOYMENT: [x",
        ("parsing a flow sequence", "end of the file"),
    ),
    (
        "a quote that does not end",
        "a: 'x\nb: 1",
        ("quoted scalar that begins at line 1, found the end",),
    ),
    ("two colons", "a: b: c", ("column 5", "put a text that has a colon in it into quotes")),
    ("indented otherwise", "a:\n  - b\n c: d", ("line 3", "indent the keys of one level alike")),
    ("a sign that begins nothing", "a: @x", ("character '@'", "put the text into quotes")),
    ("a control character", "a: \x01", ("character number 4 is U+0001",)),
    ("two documents", "a: b\n---\nc: d", ("expected a single document", "found another document")),
]
"""Name, text of runtime.yaml, words."""
