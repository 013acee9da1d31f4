"""The environment variables of a model's process: these, and nothing inherited."""

from collections.abc import Mapping

from havre.domain.workload import PythonWorkload

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
    workload: PythonWorkload,
    user: Mapping[str, str],
    lent: Mapping[str, str],
) -> dict[str, str]:
    """Defaults, overridden by the user's, overridden by the service's own.

    ``lent`` are those with which its environment finds the libraries that were lent to it.
    """
    return {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **dict.fromkeys(THREAD_VARIABLES, "1"),
        "PATH": f"{workload.interpreter.parent}:{SYSTEM_PATH}",
        "SPARK_LOCAL_IP": "127.0.0.1",  # else a model's Spark listens on the machine's network
        **user,
        **lent,
        "MODEL_DEPLOYMENT_OCID": deployment_id,
        "TENANCY_OCID": tenancy_id,
        "MODEL_SERVING_PYTHON_VERSION": workload.python_version,
    }
