"""The environment variables of a model's process: these, and nothing inherited."""

from collections.abc import Mapping
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""One thread per copy unless the user says otherwise: N copies of M threads on N cores is the
commonest way to make a model server slow."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def model_variables(
    *,
    deployment_id: str,
    tenancy_id: str,
    python_version: str,
    interpreter: Path,
    user: Mapping[str, str],
) -> dict[str, str]:
    """Defaults, overridden by the user's, overridden by the service's own."""
    return {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **dict.fromkeys(THREAD_VARIABLES, "1"),
        "PATH": f"{interpreter.parent}:{SYSTEM_PATH}",
        **user,
        "MODEL_DEPLOYMENT_OCID": deployment_id,
        "TENANCY_OCID": tenancy_id,
        "MODEL_SERVING_PYTHON_VERSION": python_version,
    }
