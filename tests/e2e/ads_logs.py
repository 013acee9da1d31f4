"""Logs with oracle-ads, as a program: made, named by a deployment, read in every way there is.

    python ads_logs.py CONFIG PROFILE URL COMPARTMENT PROJECT MODEL

Prints what each step came to as one line of JSON. Nothing in it knows of havre but the endpoint.
"""

import contextlib
import io
import json
import sys
import time

import ads
from ads.common.oci_logging import OCILogGroup
from ads.model.deployment import (
    ModelDeployment,
    ModelDeploymentCondaRuntime,
    ModelDeploymentInfrastructure,
)

POLL_S = 1
DEADLINE_S = 60


def printed(call):
    """The lines that a call prints, without the line that says what they are."""
    with contextlib.redirect_stdout(io.StringIO()) as held:
        call()
    return [line for line in held.getvalue().splitlines() if " - 20" in line]


def until(found, enough):
    """What ``found`` returns once there is enough of it: entries take a moment to arrive."""
    deadline = time.monotonic() + DEADLINE_S
    while len(rows := found()) < enough:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {rows}")
        time.sleep(POLL_S)
    return rows


def main(config, profile, url, compartment, project, model):
    ads.set_auth(
        "api_key",
        oci_config_location=config,
        profile=profile,
        client_kwargs={"service_endpoint": url},
    )
    group = OCILogGroup(display_name="ads", compartment_id=compartment).create()
    access, predict = (group.create_log(name) for name in ("requests", "words"))
    told = {"group": group.id, "logs": sorted(log.display_name for log in group.list_logs())}
    infrastructure = (
        ModelDeploymentInfrastructure()
        .with_project_id(project)
        .with_compartment_id(compartment)
        .with_shape_name("VM.Standard.E4.Flex")
        .with_shape_config_details(ocpus=1, memory_in_gbs=16)
        .with_replica(1)
        .with_bandwidth_mbps(10)
        .with_web_concurrency(1)
        .with_access_log(log_group_id=group.id, log_id=access.id)
        .with_predict_log(log_group_id=group.id, log_id=predict.id)
    )
    deployment = (
        ModelDeployment()
        .with_display_name("told")
        .with_infrastructure(infrastructure)
        .with_runtime(ModelDeploymentCondaRuntime().with_model_uri(model))
    ).deploy(poll_interval=POLL_S)
    told["id"] = deployment.model_deployment_id
    for word in ("one", "two", "three"):
        deployment.predict(json_input=[word])
    told["access"] = until(lambda: printed(deployment.logs("access").tail), 3)
    told["predict"] = until(
        lambda: printed(
            lambda: deployment.logs("predict").tail(log_filter="data.message = 'heard *'")
        ),
        3,
    )
    told["limited"] = printed(lambda: deployment.logs("access").tail(limit=2))
    told["head"] = printed(lambda: deployment.logs("access").head(limit=1))
    told["shown"] = json.loads(deployment.show_logs(log_type="access").to_json(orient="records"))
    looks = iter((False, True))
    told["streamed"] = printed(
        lambda: deployment.logs().stream(interval=POLL_S, stop_condition=lambda: next(looks))
    )
    deployment.deactivate(poll_interval=POLL_S)
    told["watched"] = printed(lambda: deployment.watch(interval=POLL_S))
    deployment.delete(poll_interval=POLL_S)
    group.delete()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
