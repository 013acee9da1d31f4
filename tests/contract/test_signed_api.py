"""An API that wants every request signed: our own client, and what sits between it and the API."""

import base64
import dataclasses
import hashlib
import io
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api_server import Api, serving

from havre import __version__
from havre.auth.signer import Signer
from havre.client import ApiError, Client
from havre.operate.bringup import health

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    settings = dataclasses.replace(api.services.settings, auth="oci")
    signed = dataclasses.replace(api.services, settings=settings, clock=lambda: datetime.now(UTC))
    with serving(signed) as url:
        yield url


@pytest.fixture
def signer(api: Api) -> Signer:
    return Signer(api.services.home, api.services.identity)


@pytest.fixture
def client(api: Api, url: str, signer: Signer) -> Client:
    return Client(url, compartment_id=api.compartment_id, project_id=api.project_id, signer=signer)


def archive(folder: Path, text: str = "def predict(): ...") -> Path:
    path = folder / "artifact.zip"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(zipfile.ZipInfo("score.py"), text)
    path.write_bytes(content.getvalue())
    return path


def stored(api: Api) -> list[str]:
    found = api.services.home.artifacts.rglob("*")
    return sorted(path.name for path in found if path.is_file())


class Tampering(httpx.Auth):
    """Signs what is sent, and then sends something else of the same length."""

    def __init__(self, signer: Signer, **changes: Any) -> None:
        self._signer, self._changes = signer, changes

    def auth_flow(self, request: httpx.Request) -> Any:
        (signed,) = self._signer.auth_flow(request)
        content = self._changes.get("content")
        if content is not None:
            signed = httpx.Request(
                signed.method, signed.url, headers=signed.headers, content=content
            )
        signed.headers.update(self._changes.get("headers", {}))
        yield signed


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def test_our_own_client_signs_the_bytes_of_an_artifact(
    api: Api, client: Client, tmp_path: Path
) -> None:
    file = archive(tmp_path)
    sent: list[int] = []
    model_id = client.create_model("m")["id"]
    client.upload_artifact(model_id, file, sent.append)
    assert sum(sent) == file.stat().st_size
    assert stored(api) == [hashlib.sha256(file.read_bytes()).hexdigest()]


@pytest.mark.parametrize("way", ["model", "metadata", "metadata replaced"])
def test_other_bytes_than_were_signed_are_not_kept(
    api: Api, client: Client, url: str, signer: Signer, tmp_path: Path, way: str
) -> None:
    good = archive(tmp_path, "def predict(): 111").read_bytes()
    evil = archive(tmp_path, "def predict(): 666").read_bytes()
    assert len(good) == len(evil)  # the length is signed, too
    model_id = client.create_model("m", customMetadataList=[{"key": "k", "value": "v"}])["id"]
    path = f"{url}/20190101/models/{model_id}/artifact"
    if way != "model":
        path = f"{url}/20190101/models/{model_id}/customMetadata/k/artifact"
    method = "PUT" if way == "metadata replaced" else "POST"
    headers = {"x-content-sha256": digest(good), "content-type": "application/octet-stream"}
    with httpx.Client(trust_env=False, headers=headers) as http:
        if method == "PUT":
            first = {"x-content-sha256": digest(b"first")}
            http.post(path, content=b"first", headers=first, auth=signer).raise_for_status()
        before = stored(api)
        for changes in (
            {"content": evil},
            {"content": evil, "headers": {"x-content-sha256": digest(evil)}},
            {"headers": {"x-content-sha256": digest(evil)}},
        ):
            answer = http.request(method, path, content=good, auth=Tampering(signer, **changes))
            assert (answer.status_code, answer.json()["code"]) == (401, "NotAuthenticated")
            assert stored(api) == before
        right = http.request(method, path, content=good, auth=signer)
        assert right.status_code == 204
        assert hashlib.sha256(good).hexdigest() in stored(api)


def test_an_upload_whose_body_is_not_signed_is_taken_as_the_sdk_sends_it(
    api: Api, client: Client, url: str, signer: Signer, tmp_path: Path
) -> None:
    content = archive(tmp_path).read_bytes()
    model_id = client.create_model("m")["id"]
    path = f"{url}/20190101/models/{model_id}/artifact"
    with httpx.Client(trust_env=False, auth=signer) as http:
        assert http.post(path, content=content).status_code == 204


def test_strangers_hear_little_of_a_server_s_health(url: str, signer: Signer) -> None:
    little = {"status": "ok", "role": "holder"}
    assert health(url) == little
    other = httpx.get(f"{url}/healthz", headers={"authorization": "Basic eDp5"})
    assert (other.status_code, other.json()) == (200, little)
    told = health(url, signer)
    assert told is not None
    assert told.items() >= {"status": "ok", "version": __version__, "role": "holder"}.items()
    assert told["holder"]


def test_a_request_that_was_signed_is_refused_when_something_is_added_twice(
    client: Client, url: str, signer: Signer
) -> None:
    (signed,) = signer.auth_flow(httpx.Request("GET", f"{url}/20190101/projects?compartmentId=x"))
    with httpx.Client(trust_env=False) as http:
        assert http.send(signed).status_code == 200
        for name in ("authorization", "date"):
            headers = [*signed.headers.multi_items(), (name, signed.headers[name])]
            twice = httpx.Request("GET", signed.url, headers=headers)
            answer = http.send(twice)
            assert (answer.status_code, answer.json()["code"]) == (401, "NotAuthenticated"), name


def test_a_stranger_with_a_long_header_holds_nobody_up(url: str, client: Client) -> None:
    long = {"authorization": "Signature " + "a" * 58_000}
    began = time.process_time()  # of the server, too: it is in this process
    for _ in range(3):
        with pytest.raises(ApiError, match="longer than"):
            Client(url, compartment_id="c", project_id="p", signer=None)._check(
                httpx.get(f"{url}/20190101/projects?compartmentId=x", headers=long)
            )
    assert time.process_time() - began < 5
