"""A data scientist's notebook with oracle-ads, as a program: one model, from fit to farewell.

    python ads_model.py FRAMEWORK CONFIG PROFILE URL COMPARTMENT PROJECT [SLUG]

SLUG is the inference environment that the artifact names; without one it names none.

Prints what each step came to as one line of JSON. Nothing in it knows of havre but the endpoint.
"""

import json
import sys
import tempfile

import ads
from ads.model.framework.lightgbm_model import LightGBMModel
from ads.model.framework.sklearn_model import SklearnModel
from ads.model.framework.xgboost_model import XGBoostModel
from ads.model.generic_model import GenericModel
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

POLL_S = 1


class Rule:
    """What GenericModel is for: any object that predicts."""

    def predict(self, rows):
        return [round(sum(row), 3) for row in rows]


def fitted(framework, x, y):
    """An estimator and the class of oracle-ads for it."""
    if framework == "sklearn":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=10, random_state=0).fit(x, y), SklearnModel
    if framework == "lightgbm":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(n_estimators=5, verbose=-1).fit(x, y), LightGBMModel
    if framework == "xgboost":
        from xgboost import XGBRegressor

        return XGBRegressor(n_estimators=5).fit(x, y), XGBoostModel
    return Rule(), GenericModel


def main(framework, config, profile, url, compartment, project, slug=""):
    ads.set_auth(
        "api_key",
        oci_config_location=config,
        profile=profile,
        client_kwargs={"service_endpoint": url},
    )
    x, y = load_iris(return_X_y=True, as_frame=True)
    x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
    estimator, kind = fitted(framework, x_train, y_train)
    rows = x_test.head(8)
    if kind is GenericModel:
        rows = rows.values.tolist()
    model = kind(estimator=estimator, artifact_dir=tempfile.mkdtemp())
    given = {} if kind is GenericModel else {"X_sample": x_train, "y_sample": y_train}
    model.prepare(
        ignore_conda_error=True,
        inference_python_version="{}.{}".format(*sys.version_info),
        model_file_name=None if kind is not GenericModel else "rule.pkl",
        force_overwrite=True,
        **given,
    )
    if slug:
        model.runtime_info.model_deployment.inference_conda_env.inference_env_slug = slug
        model.runtime_info.save()
    told = {
        "estimator": [float(value) for value in estimator.predict(rows)],
        "verified": model.verify(rows)["prediction"],
    }
    told["model"] = model.save(
        display_name=framework,
        ignore_introspection=True,
        compartment_id=compartment,
        project_id=project,
    )
    deployment = model.deploy(
        display_name=framework,
        poll_interval=POLL_S,
        compartment_id=compartment,
        project_id=project,
    )
    told["id"] = deployment.model_deployment_id
    states = told["states"] = [deployment.state.name]
    told["predicted"] = model.predict(rows)["prediction"]
    model.update_deployment(description="changed", poll_interval=POLL_S)
    told["description"] = model.model_deployment.description
    deployment.deactivate(poll_interval=POLL_S)
    states.append(deployment.state.name)
    deployment.activate(poll_interval=POLL_S)
    states.append(deployment.state.name)
    told["again"] = model.predict(rows)["prediction"]
    if kind is GenericModel:
        model.delete_deployment()  # cannot be told to look more often than every 10 s
    else:
        deployment.delete(poll_interval=POLL_S)
    states.append(deployment.state.name)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
