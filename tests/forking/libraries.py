"""Libraries with threads of their own, each with a model that has used it while loading.

``predict(n)`` answers something that n decides, small or large: libraries go other ways for large
requests. `make forks` tries them all and writes what came of it to ``found.json``, which is the
table in docs/explanation/copies.md.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.forking import models

FOUND = Path(__file__).parent / "found.json"
SMALL, LARGE = 2, 200_000


@dataclass(frozen=True)
class Library:
    """``packages``: the first one's version stands for it; ``{prefix}``: their environment.

    ``is_here``: what the tests run with has it, so that it is tried with every run of them.
    ``only_waits``: a Python thread without which a fork does as well.
    """

    name: str
    packages: tuple[str, ...]
    score: str
    threads: tuple[str, ...] = ("1", "4")
    variables: dict[str, str] = field(default_factory=dict)
    is_here: bool = False
    only_waits: bool = False


ONE = ("1",)
LIBRARIES = (
    Library("NumPy, with OpenBLAS", ("numpy",), models.BLAS, is_here=True),
    Library(
        "MKL, on Intel's build of LLVM's OpenMP",
        ("mkl", "intel-openmp", "numpy"),
        models.MKL,
        variables={"LD_LIBRARY_PATH": "{prefix}/lib", "MKL_THREADING_LAYER": "INTEL"},
    ),
    Library(
        "scikit-learn, on GCC's OpenMP",
        ("scikit-learn",),
        models.TREES.format(
            imports="from sklearn.ensemble import HistGradientBoostingClassifier as Model",
            model="Model(max_iter=20)",
        ),
    ),
    Library(
        "LightGBM, on GCC's OpenMP",
        ("lightgbm", "scikit-learn"),
        models.TREES.format(
            imports="from lightgbm import LGBMClassifier as Model",
            model="Model(n_estimators=20, verbose=-1)",
        ),
    ),
    Library(
        "XGBoost, on GCC's OpenMP",
        ("xgboost-cpu", "scikit-learn"),
        models.TREES.format(
            imports="from xgboost import XGBClassifier as Model", model="Model(n_estimators=20)"
        ),
    ),
    Library(
        "CatBoost",
        ("catboost",),
        models.TREES.format(
            imports="from catboost import CatBoostClassifier as Model",
            model="Model(iterations=20, verbose=0, allow_writing_files=False)",
        ),
        ONE,
    ),
    Library("FAISS, on GCC's OpenMP", ("faiss-cpu",), models.FAISS),
    Library("PyTorch, on GCC's OpenMP", ("torch==2.13.0+cpu", "numpy"), models.TORCH),
    Library(
        "transformers, `from_pretrained`",
        ("transformers", "torch==2.13.0+cpu", "numpy"),
        models.TRANSFORMERS,
        ONE,
    ),
    Library(
        "oneDAL, on TBB (scikit-learn-intelex)",
        ("scikit-learn-intelex", "scikit-learn"),
        models.KMEANS,
    ),
    Library(
        "Numba, TBB",
        ("numba", "tbb"),
        models.NUMBA + models.NUMBA_END,
        ONE,
        {"NUMBA_THREADING_LAYER": "tbb", "LD_LIBRARY_PATH": "{prefix}/lib"},
    ),
    Library(
        "Numba, GCC's OpenMP: a parallel function",
        ("numba",),
        models.NUMBA + models.NUMBA_END,
        ONE,
        {"NUMBA_THREADING_LAYER": "omp"},
    ),
    Library(
        "Numba, GCC's OpenMP: a parallel ufunc",
        ("numba",),
        models.NUMBA_UFUNC + models.NUMBA_END,
        ONE,
        {"NUMBA_THREADING_LAYER": "omp"},
    ),
    Library(
        "Numba, its work queue",
        ("numba",),
        models.NUMBA + models.NUMBA_END,
        ONE,
        {"NUMBA_THREADING_LAYER": "workqueue"},
    ),
    Library(
        "ONNX Runtime",
        ("onnxruntime", "onnx"),
        models.ONNX.format(options="options.intra_op_num_threads = 1"),
        ONE,
    ),
    Library(
        "ONNX Runtime, 4 threads within a step",
        ("onnxruntime", "onnx"),
        models.ONNX.format(options="options.intra_op_num_threads = 4"),
        ONE,
    ),
    Library(
        "ONNX Runtime, steps side by side",
        ("onnxruntime", "onnx"),
        models.ONNX.format(
            options="options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL\n"
            "options.inter_op_num_threads = 4"
        ),
        ONE,
    ),
    Library(
        "TensorFlow, `model.predict`",
        ("tensorflow-cpu",),
        models.TENSORFLOW.format(
            call="model.predict(numpy.ones((min(n, 20_000), 8), 'f4'), verbose=0)"
        ),
        ONE,
    ),
    Library(
        "TensorFlow, the model called",
        ("tensorflow-cpu",),
        models.TENSORFLOW.format(call="model(numpy.ones((min(n, 20_000), 8), 'f4')).numpy()"),
        ONE,
    ),
    Library("JAX", ("jax",), models.JAX, ONE),
    Library("Polars", ("polars",), models.POLARS, ONE, {"POLARS_MAX_THREADS": "1"}),
    Library("PyArrow", ("pyarrow",), models.PYARROW, ONE),
    Library("DuckDB", ("duckdb",), models.DUCKDB, ONE, is_here=True),
    Library("tokenizers", ("tokenizers",), models.TOKENIZERS, ONE),
    Library("spaCy", ("spacy",), models.SPACY, ONE),
    Library("gRPC, with a channel", ("grpcio",), models.GRPC, ONE),
    Library("OpenCV", ("opencv-python-headless", "numpy"), models.OPENCV, ONE),
    Library("NumExpr", ("numexpr",), models.NUMEXPR, ONE, {"NUMEXPR_MAX_THREADS": "4"}),
    Library("Sentry, with an event sent while loading", ("sentry-sdk",), models.SENTRY, ONE),
    Library("tqdm's monitor", ("tqdm",), models.TQDM, ONE, is_here=True, only_waits=True),
    Library(
        "OpenTelemetry's batch processor",
        ("opentelemetry-sdk",),
        models.SPANS,
        ONE,
        only_waits=True,
    ),
    Library(
        "OpenTelemetry's metric reader",
        ("opentelemetry-sdk",),
        models.METRICS,
        ONE,
        only_waits=True,
    ),
)


NOT_RUN = {"version": "", "plain": "could not be run", "alone": "", "sampled": ""}


def read_found() -> dict[str, dict[str, Any]]:
    """By the names of ``row_name``."""
    return json.loads(FOUND.read_text()) if FOUND.exists() else {}


def row_name(library: Library, threads: str) -> str:
    return (
        library.name
        if len(library.threads) == 1
        else f"{library.name}, {threads} thread" + ("s" if threads != "1" else "")
    )


def table(*, only_waits: bool) -> Iterator[str]:
    """What was found of those libraries, as the page shows it."""
    found = read_found()
    yield "| library | version | a plain fork | in havre, without a sample | with one |"
    yield "|---|---|---|---|---|"
    for library in LIBRARIES:
        if library.only_waits != only_waits:
            continue
        for threads in library.threads:
            name = row_name(library, threads)
            row = found.get(name, NOT_RUN)
            cells = (name, *(row[each] for each in ("version", "plain", "alone", "sampled")))
            yield f"| {' | '.join(cells)} |"
