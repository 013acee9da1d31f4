"""The catalog through the unmodified `oci` SDK, over real HTTP on a loopback port."""

import http.client
import io
import socket
import time
import zipfile
from urllib.parse import urlsplit

import oci
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from oci.data_science import DataScienceClient
from oci.data_science import models as wire
from tests.support.api_server import Clock, make_services, serving
from tests.support.databases import migrated_sqlite


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    database = migrated_sqlite(root / "havre.sqlite3")
    yield make_services(database, root, clock=Clock(), woken=[])
    database.close()


@pytest.fixture(scope="module")
def url(services):
    with serving(services) as url:
        yield url


@pytest.fixture(scope="module")
def config(services, tmp_path_factory):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path_factory.mktemp("keys") / "key.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return {
        "user": services.identity.user_ocid,
        "tenancy": services.identity.tenancy_ocid,
        "fingerprint": ":".join(["ab"] * 16),
        "key_file": str(file),
        "region": "us-ashburn-1",
    }


@pytest.fixture(params=["", "/", "/20190101", "/pre/fix"])
def any_client(request, config, url):
    return DataScienceClient(config, service_endpoint=url + request.param)


@pytest.fixture
def client(config, url):
    return DataScienceClient(config, service_endpoint=url)


@pytest.fixture
def create_model(client, services):
    def create(**fields):
        details = wire.CreateModelDetails(
            compartment_id=services.identity.tenancy_ocid,
            project_id=services.identity.project_ocid,
            **fields,
        )
        return client.create_model(details).data

    return create


@pytest.fixture
def archive():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("score.py", "def predict(data): return data\n" * 1000)
    return target.getvalue()


def test_every_form_of_the_endpoint_works(any_client, services):
    project = any_client.get_project(services.identity.project_ocid).data
    assert (project.display_name, project.lifecycle_state) == ("default", "ACTIVE")
    assert project.time_created.tzinfo is not None


def test_a_project_from_creation_to_its_tombstone(client):
    made = client.create_project(wire.CreateProjectDetails(compartment_id="c")).data
    composite = oci.data_science.DataScienceClientCompositeOperations(client)
    gone = composite.delete_project_and_wait_for_state(
        made.id, ["SUCCEEDED"], waiter_kwargs={"max_wait_seconds": 20}
    )
    assert gone.data.operation_type == "PROJECT_DELETE"
    assert client.get_project(made.id).data.lifecycle_state == "DELETED"


def test_a_model_comes_back_as_it_was_sent(client, create_model):
    metadata = [
        wire.Metadata(key="k", value="v", category="Performance"),
        wire.Metadata(key="no value"),
    ]
    made = create_model(
        display_name="ünïcode ☃",
        custom_metadata_list=metadata,
        defined_metadata_list=[wire.Metadata(key="ArtifactTestResults")],
        input_schema="{}",
        freeform_tags={"a": "b"},
        defined_tags={"n": {"k": 1}},
        retention_setting=wire.RetentionSetting(archive_after_days=30),
    )
    read = client.get_model(made.id)
    assert read.headers["etag"]
    assert read.data.display_name == "ünïcode ☃"
    assert [entry.key for entry in read.data.custom_metadata_list] == ["k", "no value"]
    assert read.data.retention_setting.archive_after_days == 30
    assert read.data.defined_tags == {"n": {"k": 1}}
    changed = client.update_model(made.id, wire.UpdateModelDetails(description="d")).data
    assert (changed.description, changed.display_name) == ("d", "ünïcode ☃")
    assert client.deactivate_model(made.id).data.lifecycle_state == "INACTIVE"
    assert client.activate_model(made.id).data.lifecycle_state == "ACTIVE"
    client.delete_model(made.id)
    assert client.get_model(made.id).data.lifecycle_state == "DELETED"


def test_the_sdk_pages_through_all_models(client, services):
    project = client.create_project(
        wire.CreateProjectDetails(compartment_id="pages", display_name="p")
    ).data
    for number in range(7):
        client.create_model(
            wire.CreateModelDetails(
                compartment_id="pages", project_id=project.id, display_name=f"m{number}"
            )
        )
    listed = oci.pagination.list_call_get_all_results(
        client.list_models, "pages", limit=3, sort_by="displayName", sort_order="ASC"
    )
    assert [model.display_name for model in listed.data] == [f"m{number}" for number in range(7)]


@pytest.mark.parametrize("form", ["bytes", "stream"])
def test_an_artifact_goes_up_and_comes_down(client, create_model, archive, form):
    made = create_model()
    with pytest.raises(oci.exceptions.ServiceError) as absent:
        client.head_model_artifact(made.id)
    assert absent.value.status == 404
    client.create_model_artifact(
        made.id,
        archive if form == "bytes" else io.BytesIO(archive),
        content_disposition=f'attachment; filename="{made.id}.zip"',
    )
    headers = client.head_model_artifact(made.id).headers
    assert int(headers["Content-Length"]) == len(archive)
    assert headers["Content-Disposition"] == f"attachment; filename={made.id}.zip"
    assert client.get_model_artifact_content(made.id).data.content == archive
    part = client.get_model_artifact_content(made.id, range="bytes=10-19")
    assert (part.status, part.data.content) == (206, archive[10:20])
    with pytest.raises(oci.exceptions.ServiceError) as again:
        client.create_model_artifact(made.id, archive)
    assert (again.value.status, again.value.code) == (409, "Conflict")


def test_a_large_upload_that_is_refused_hears_why(client, create_model, archive):
    """The refusal is known before the body is read; the client must still see it."""
    made = create_model()
    client.create_model_artifact(made.id, archive)
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.create_model_artifact(made.id, b"x" * 20_000_000)
    assert (refused.value.status, refused.value.code) == (409, "Conflict")


def test_an_artifact_that_is_no_archive_is_refused(client, create_model):
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.create_model_artifact(create_model().id, b"x" * 5_000_000)
    assert (refused.value.status, refused.value.code) == (400, "InvalidParameter")
    assert "zip" in refused.value.message


def test_an_upload_that_breaks_off_leaves_nothing(create_model, services, url):
    made = create_model()
    target = urlsplit(url)
    with socket.create_connection((target.hostname, target.port)) as client:
        client.sendall(
            f"POST /20190101/models/{made.id}/artifact HTTP/1.1\r\nhost: x\r\n"
            "content-length: 9000000\r\n\r\n".encode()
            + b"PK" * 1_000_000
        )
        incoming = services.home.artifacts / "incoming"
        wait_until(lambda: any(incoming.iterdir()))
    wait_until(lambda: not any(incoming.iterdir()))


def test_a_download_that_breaks_off_harms_nobody(client, create_model, url):
    target, made = io.BytesIO(), create_model()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("score.py", "")
        file.writestr("weights", b"0" * 8_000_000)
    client.create_model_artifact(made.id, target.getvalue())
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", f"/20190101/models/{made.id}/artifact/content")
    assert connection.getresponse().read(1000) == target.getvalue()[:1000]
    connection.close()
    assert client.get_model_artifact_content(made.id).data.content == target.getvalue()


def test_provenance_may_say_nothing(client, create_model):
    made = create_model()
    with pytest.raises(oci.exceptions.ServiceError) as absent:
        client.get_model_provenance(made.id)
    assert absent.value.status == 404
    client.create_model_provenance(made.id, wire.CreateModelProvenanceDetails())
    details = wire.UpdateModelProvenanceDetails(git_branch="main")
    client.update_model_provenance(made.id, details)
    assert client.get_model_provenance(made.id).data.git_branch == "main"


def test_metadata_carries_artifacts(client, create_model):
    made = create_model(custom_metadata_list=[wire.Metadata(key="notes", value="v")])
    client.create_model_custom_metadatum_artifact(made.id, "notes", b"one")
    client.update_model_custom_metadatum_artifact(made.id, "notes", b"two")
    got = client.get_model_custom_metadatum_artifact_content(made.id, "notes")
    assert got.data.content == b"two"
    assert client.get_model(made.id).data.custom_metadata_list[0].has_artifact is True
    client.create_model_defined_metadatum_artifact(made.id, "Readme", b"# read me")
    headers = client.head_model_defined_metadatum_artifact(made.id, "Readme").headers
    assert headers["content-length"] == "9"
    client.delete_model_custom_metadatum_artifact(made.id, "notes")
    with pytest.raises(oci.exceptions.ServiceError) as absent:
        client.head_model_custom_metadatum_artifact(made.id, "notes")
    assert absent.value.status == 404


def test_a_version_set_numbers_its_models(client, services, create_model):
    details = wire.CreateModelVersionSetDetails(
        compartment_id=services.identity.tenancy_ocid,
        project_id=services.identity.project_ocid,
        name="versions",
    )
    made = client.create_model_version_set(details).data
    versions = [create_model(model_version_set_id=made.id) for _ in range(2)]
    assert [model.version_id for model in versions] == [1, 2]
    assert versions[0].model_version_set_name == "versions"
    composite = oci.data_science.DataScienceClientCompositeOperations(client)
    composite.delete_model_version_set_and_wait_for_state(
        made.id,
        ["SUCCEEDED"],
        operation_kwargs={"is_delete_related_models": True},
        waiter_kwargs={"max_wait_seconds": 20},
    )
    assert client.get_model_version_set(made.id).data.lifecycle_state == "DELETED"
    assert client.get_model(versions[0].id).data.lifecycle_state == "DELETED"


def test_a_retried_creation_makes_one(client):
    details = wire.CreateProjectDetails(compartment_id="retry", display_name="once")
    ids = {client.create_project(details, opc_retry_token="t").data.id for _ in range(2)}
    assert len(ids) == 1
    other = wire.CreateProjectDetails(compartment_id="retry", display_name="twice")
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.create_project(other, opc_retry_token="t")
    assert (refused.value.status, refused.value.code) == (409, "InvalidatedRetryToken")


def test_errors_carry_code_message_and_request_id(client):
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.get_model("ocid1.nothing", opc_request_id="MYREQUEST")
    error = refused.value
    assert (error.status, error.code) == (404, "NotAuthorizedOrNotFound")
    assert error.request_id == "MYREQUEST"
    assert "ocid1.nothing" in error.message


def test_what_is_absent_is_listed_empty_and_refused_at_once(client):
    assert client.list_jobs("c").data == []
    assert client.list_notebook_sessions("c").data == []
    assert client.list_ml_applications(compartment_id="c").data.items == []
    answers = []
    client.base_client.session.hooks["response"].append(
        lambda response, *_, **__: answers.append(response.status_code)
    )
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        client.create_job(wire.CreateJobDetails(compartment_id="c", project_id="p"))
    assert (refused.value.status, refused.value.code) == (501, "MethodNotImplemented")
    assert answers == [501], "the SDK does not try again"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
