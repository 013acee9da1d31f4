"""Train a small real model and write its artifact. Runs inside an inference environment.

    python train.py OUTPUT --slug generalml_p311_cpu_x86_64_v1

The data are 569 samples of breast tumours with 30 measurements each (Wisconsin, 1995), which
scikit-learn ships. A fifth of them is held out. Written are::

    OUTPUT/artifact/score.py            how to score: load_model() and predict()
    OUTPUT/artifact/runtime.yaml        which environment the model needs
    OUTPUT/artifact/model.joblib        the model
    OUTPUT/artifact/input_schema.json   the measurements it takes
    OUTPUT/artifact/test_input.json     a request to try
    OUTPUT/held_out.json                {"rows": [{measurement: value}, …], "labels": [text, …]}

and a summary is printed as JSON. Python 3.8 and newer; scikit-learn, pandas and joblib.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HELD_OUT = 0.2
SEED = 7

RUNTIME = """\
MODEL_ARTIFACT_VERSION: '3.0'
MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_ENV_PATH: ''
    INFERENCE_ENV_SLUG: {slug}
    INFERENCE_ENV_TYPE: {kind}
    INFERENCE_PYTHON_VERSION: '{python}'
"""


def main():
    """Read the command line, train, write, and print what came out."""
    parser = argparse.ArgumentParser(description="Train a small real model, write its artifact.")
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--slug", required=True, help="environment the model is served in")
    parser.add_argument("--kind", default="data_science", choices=["data_science", "published"])
    asked = parser.parse_args()
    model, samples, labels = train()
    artifact = asked.output / "artifact"
    artifact.mkdir(parents=True, exist_ok=True)
    write_artifact(artifact, model, samples, slug=asked.slug, kind=asked.kind)
    rows = samples.to_dict(orient="records")
    write_json(asked.output / "held_out.json", {"rows": rows, "labels": list(labels)})
    summary = {
        "artifact": str(artifact),
        "held_out": len(rows),
        "accuracy": round(float(model.score(samples, labels)), 4),
    }
    print(json.dumps(summary))


def train():
    """A fitted pipeline, and the held-out samples with their true labels."""
    data = load_breast_cancer(as_frame=True)
    labels = data.target.map(dict(enumerate(map(str, data.target_names))))
    samples, held_out, sample_labels, held_out_labels = train_test_split(
        data.data, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(samples, sample_labels)
    return model, held_out, held_out_labels


def write_artifact(folder, model, samples, slug, kind):
    """Everything that serving needs, in one folder."""
    shutil.copyfile(str(Path(__file__).with_name("score.py")), str(folder / "score.py"))
    joblib.dump(model, str(folder / "model.joblib"))
    python = "{}.{}".format(*sys.version_info[:2])
    runtime = RUNTIME.format(slug=slug, kind=kind, python=python)
    (folder / "runtime.yaml").write_text(runtime, encoding="utf-8")
    schema = [
        {
            "name": name,
            "dtype": "float64",
            "feature_type": "Continuous",
            "required": True,
            "description": name,
            "order": order,
            "domain": {"values": "", "stats": {}, "constraints": []},
        }
        for order, name in enumerate(samples.columns)
    ]
    write_json(folder / "input_schema.json", {"schema": schema, "version": "1.1"})
    write_json(folder / "test_input.json", samples.head(2).to_dict(orient="records"))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
