"""Manifests as people write them, each with what must come of it.

``READ`` become the second of each pair: the fields that are not empty. ``WARNED`` become the
second, and the third is found in the one warning. ``REFUSED`` are refused with words that have the
second, and no environment is taken for them.
"""

from typing import Any

SLUG = "generalml_p311_cpu_x86_64_v1"


def full(environment: str) -> str:
    """A manifest whose environment has these lines."""
    lines = "".join(f"    {line}\n" for line in environment.splitlines())
    return f"MODEL_ARTIFACT_VERSION: '3.0'\nMODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n{lines}"


PROVENANCE = """
MODEL_PROVENANCE:
  PROJECT_OCID: ''
  TENANCY_OCID: ''
  TRAINING_CODE:
    ARTIFACT_DIRECTORY: /home/datascience/artifact
  TRAINING_COMPARTMENT_OCID: ''
  TRAINING_CONDA_ENV:
    TRAINING_ENV_PATH: ''
    TRAINING_ENV_SLUG: other_p38_cpu_v1
    TRAINING_ENV_TYPE: data_science
    TRAINING_PYTHON_VERSION: '3.8'
  TRAINING_REGION: ''
  USER_OCID: ''
  VM_IMAGE_INTERNAL_ID: ''
"""

READ: list[tuple[str, dict[str, Any]]] = [
    (full(f"INFERENCE_ENV_SLUG: {SLUG}"), {"slug": SLUG}),
    (full(f"INFERENCE_ENV_SLUG: {SLUG}") + PROVENANCE, {"slug": SLUG}),
    (full(f"INFERENCE_ENV_SLUG: {SLUG}\r"), {"slug": SLUG}),
    (
        full("INFERENCE_ENV_TYPE: Data_Science\nINFERENCE_ENV_SLUG: a"),
        {"slug": "a", "kind": "data_science"},
    ),
    (
        full("INFERENCE_ENV_PATH: oci://b@n/p\nINFERENCE_ENV_TYPE: published"),
        {"path": "oci://b@n/p", "kind": "published"},
    ),
    (full("INFERENCE_PYTHON_VERSION: 3.10"), {"python": "3.10"}),
    (full("INFERENCE_PYTHON_VERSION: 3.8.18"), {"python": "3.8"}),
    (full("INFERENCE_PYTHON_VERSION: 3.13.0rc1"), {"python": "3.13"}),
    (full("INFERENCE_PYTHON_VERSION: 3.12.1+"), {"python": "3.12"}),
    # As sys.version writes it.
    (
        full("INFERENCE_PYTHON_VERSION: 3.11.7 (main, Dec  8 2023, 18:56:58) [GCC 12.2.0]"),
        {"python": "3.11"},
    ),
    (
        full(
            "INFERENCE_PYTHON_VERSION: '3.8.18 (default, Sep 11 2023, 13:40:15) \n\n  [GCC 11.2.0]'"
        ),
        {"python": "3.8"},
    ),
    (
        full(
            'INFERENCE_PYTHON_VERSION: "3.10.13 | packaged by conda-forge | (main, Dec 23 2023) [GCC 12.3.0]"'
        ),
        {"python": "3.10"},
    ),
    (
        full(
            "INFERENCE_PYTHON_VERSION: 3.13.0 experimental free-threading build (main, Oct  7 2024) [Clang 18]"
        ),
        {"python": "3.13"},
    ),
    (
        full("INFERENCE_PYTHON_VERSION: 3.12.3+ (heads/3.12:8c4f5d5, Apr 2024) [GCC 13.2.0]"),
        {"python": "3.12"},
    ),
    # oracle-ads leaves all of it empty where it knows no environment.
    (
        full(
            "INFERENCE_ENV_PATH: ''\nINFERENCE_ENV_SLUG: ''\nINFERENCE_ENV_TYPE: ''\nINFERENCE_PYTHON_VERSION: ''"
        ),
        {},
    ),
    (
        f"env: &env\n  INFERENCE_ENV_SLUG: {SLUG}\nMODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV: *env\n",
        {"slug": SLUG},
    ),
    ("owner: somebody\nnotes: {PATH: x, slug: y}\n", {}),
]

WARNED: list[tuple[str, dict[str, Any], str]] = [
    (
        full(f"INFERENCE_ENV_SLUG: {SLUG}\nINFERENCE_GPU: 1"),
        {"slug": SLUG},
        "line 5: INFERENCE_GPU is not read",
    ),
    (
        full("INFERENCE_ENV_SLUG: a") + "INFERENCE_ENV_SLUG: a\n",
        {"slug": "a"},
        "line 5: INFERENCE_ENV_SLUG belongs below",
    ),
    (
        full("INFERENCE_ENV_SLUG: a\ninference_env_slug: a"),
        {"slug": "a"},
        "line 5: inference_env_slug should be INFERENCE_ENV_SLUG",
    ),
    (
        full("INFERENCE_ENV_SLUG: a") + "notes:\n  a: 1\n  a: 2\n",
        {"slug": "a"},
        "line 7: a is there already (line 6)",
    ),
    (
        "MODEL_ARTEFACT_VERSION: '3.0'\n",
        {},
        "line 1: MODEL_ARTEFACT_VERSION should be MODEL_ARTIFACT_VERSION",
    ),
    (
        "model_artifact_version: '3.0'\n",
        {},
        "line 1: model_artifact_version should be MODEL_ARTIFACT_VERSION, at the top",
    ),
    (
        "INFERENCE_CONDA_ENV:\n  INFERENCE_ENV_SLUG: ''\n",
        {},
        "line 1: INFERENCE_CONDA_ENV belongs below MODEL_DEPLOYMENT",
    ),
]

REFUSED: list[tuple[str, str]] = [
    # misplaced
    (
        "INFERENCE_ENV_SLUG: a\n",
        "line 1: INFERENCE_ENV_SLUG belongs below MODEL_DEPLOYMENT and INFERENCE_CONDA_ENV",
    ),
    (
        "INFERENCE_CONDA_ENV:\n  INFERENCE_ENV_SLUG: a\n",
        "line 1: INFERENCE_CONDA_ENV belongs below MODEL_DEPLOYMENT",
    ),
    ("MODEL_DEPLOYMENT:\n  INFERENCE_ENV_SLUG: a\n", "line 2: INFERENCE_ENV_SLUG belongs below"),
    (
        "MODEL_PROVENANCE:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_ENV_SLUG: a\n",
        "line 2: INFERENCE_CONDA_ENV belongs below",
    ),
    (
        "deploy:\n  MODEL_DEPLOYMENT:\n    INFERENCE_CONDA_ENV:\n      INFERENCE_ENV_SLUG: a\n",
        "line 2: MODEL_DEPLOYMENT belongs at the top",
    ),
    ("- INFERENCE_ENV_SLUG: a\n", "must be a mapping"),
    ("environments:\n- INFERENCE_ENV_SLUG: a\n", "line 2: INFERENCE_ENV_SLUG belongs below"),
    (
        full("INFERENCE_ENV_SLUG: a") + "INFERENCE_PYTHON_VERSION: '3.9'\n",
        "line 5: INFERENCE_PYTHON_VERSION belongs below",
    ),
    (
        "MODEL_DEPLOYMENT:\nINFERENCE_CONDA_ENV:\nINFERENCE_ENV_SLUG: a\n",
        "line 3: INFERENCE_ENV_SLUG belongs below",
    ),
    # in other capitals, or with other marks between the words
    (
        "model_deployment:\n  inference_conda_env:\n    inference_env_slug: a\n",
        "line 1: model_deployment should be MODEL_DEPLOYMENT, at the top",
    ),
    (full("Inference_Env_Slug: a"), "line 4: Inference_Env_Slug should be INFERENCE_ENV_SLUG"),
    (full("INFERENCE-ENV-SLUG: a"), "line 4: 'INFERENCE-ENV-SLUG' should be INFERENCE_ENV_SLUG"),
    (full("INFERENCE ENV SLUG: a"), "line 4: 'INFERENCE ENV SLUG' should be INFERENCE_ENV_SLUG"),
    (
        full("'INFERENCE_ENV_SLUG ': a"),
        "line 4: 'INFERENCE_ENV_SLUG ' should be INFERENCE_ENV_SLUG",
    ),
    (
        full("INFERENCE_ENV_SLUG: a\ninference_env_slug: b"),
        "line 5: inference_env_slug should be INFERENCE_ENV_SLUG",
    ),
    # misspelled
    (
        "MODEL_DEPLOYEMENT:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_ENV_SLUG: a\n",
        "line 1: MODEL_DEPLOYEMENT should be MODEL_DEPLOYMENT",
    ),
    (
        "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENVS:\n    INFERENCE_ENV_SLUG: a\n",
        "line 2: INFERENCE_CONDA_ENVS should be INFERENCE_CONDA_ENV",
    ),
    (
        "MODEL_DEPLOYMENT:\n  CONDA:\n    INFERENCE_ENV_SLUG: a\n",
        "line 3: INFERENCE_ENV_SLUG belongs below",
    ),
    (full("INFERENCE_ENV_SLUGG: a"), "line 4: INFERENCE_ENV_SLUGG should be INFERENCE_ENV_SLUG"),
    (full("INFERENCE_SLUG: a"), "line 4: INFERENCE_SLUG should be INFERENCE_ENV_SLUG"),
    (full("ENV_SLUG: a"), "line 4: ENV_SLUG should be INFERENCE_ENV_SLUG"),
    (full("TRAINING_ENV_SLUG: a"), "line 4: TRAINING_ENV_SLUG should be INFERENCE_ENV_SLUG"),
    (full("PYTHON_VERSION: '3.9'"), "line 4: PYTHON_VERSION should be INFERENCE_PYTHON_VERSION"),
    (
        full("INFERENCE_ENV_SLUG: a\nINFERENCE_PYTHON_VERSON: '3.9'"),
        "line 5: INFERENCE_PYTHON_VERSON should be",
    ),
    # twice
    (
        full("INFERENCE_ENV_SLUG: a\nINFERENCE_ENV_SLUG: b"),
        "line 5: INFERENCE_ENV_SLUG is there already (line 4)",
    ),
    (
        full("INFERENCE_ENV_SLUG: a") + "MODEL_DEPLOYMENT: {}\n",
        "line 5: MODEL_DEPLOYMENT is there already (line 2)",
    ),
    (
        "MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    INFERENCE_ENV_SLUG: a\n  INFERENCE_CONDA_ENV: {}\n",
        "line 4: INFERENCE_CONDA_ENV is there already (line 2)",
    ),
    # brought together in a way that is not read
    (
        "base: &base {INFERENCE_ENV_TYPE: data_science}\nMODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:\n    <<: *base\n    INFERENCE_ENV_SLUG: a\n",
        "line 4: merge keys (<<) are not read",
    ),
    # half of what names an environment
    (full("INFERENCE_ENV_TYPE: published"), "no environment is named"),
    # no versions
    (full("INFERENCE_PYTHON_VERSION: 3.8 or 3.9"), "such as '3.10', not '3.8 or 3.9'"),
    (full("INFERENCE_PYTHON_VERSION: '>=3.8'"), "not '>=3.8'"),
    (full("INFERENCE_PYTHON_VERSION: 2.7.18 (default, Apr 2020) [GCC 9]"), "such as '3.10'"),
]
