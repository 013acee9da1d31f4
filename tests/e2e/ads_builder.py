"""The builder of oracle-ads, as a program: a deployment of a model that is in the catalog.

    python ads_builder.py CONFIG PROFILE COMPARTMENT PROJECT MODEL OTHER_MODEL DATA

The endpoint comes from the environment (OCI_ODSC_SERVICE_ENDPOINT), the other way there is.
Prints what each step came to as one line of JSON.
"""

import json
import sys

import ads
from ads.model.deployment import (
    ModelDeployment,
    ModelDeploymentCondaRuntime,
    ModelDeploymentInfrastructure,
)

POLL_S = 1


def main(config, profile, compartment, project, model_id, other_id, text):
    ads.set_auth("api_key", oci_config_location=config, profile=profile)
    data = json.loads(text)
    infrastructure = (
        ModelDeploymentInfrastructure()
        .with_project_id(project)
        .with_compartment_id(compartment)
        .with_shape_name("VM.Standard.E4.Flex")
        .with_shape_config_details(ocpus=1, memory_in_gbs=16)
        .with_replica(1)
        .with_bandwidth_mbps(10)
        .with_web_concurrency(2)
    )
    runtime = ModelDeploymentCondaRuntime().with_model_uri(model_id).with_env({"WHO": "ads"})
    deployment = (
        ModelDeployment()
        .with_display_name("built")
        .with_description("by the builder")
        .with_freeform_tags(team="ads")
        .with_infrastructure(infrastructure)
        .with_runtime(runtime)
    )
    deployment.deploy(poll_interval=POLL_S)
    told = {"id": deployment.model_deployment_id, "first": deployment.predict(data)}
    states = told["states"] = [deployment.state.name]

    deployment.with_display_name("rebuilt").runtime.with_model_uri(other_id)
    deployment.update(poll_interval=POLL_S)
    told["second"] = deployment.predict(data)
    states.append(deployment.state.name)
    deployment.deactivate(poll_interval=POLL_S)
    states.append(deployment.state.name)
    deployment.activate(poll_interval=POLL_S)
    told["third"] = deployment.predict(data)
    read = ModelDeployment.from_id(deployment.model_deployment_id)
    told["read"] = [read.display_name, read.description, read.freeform_tags]
    listed = ModelDeployment.list(status="ACTIVE", compartment_id=compartment, project_id=project)
    told["listed"] = [row.model_deployment_id for row in listed]
    deployment.delete(poll_interval=POLL_S)
    states.append(deployment.state.name)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
