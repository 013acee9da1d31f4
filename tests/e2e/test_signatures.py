"""A server that wants every request signed, driven by OCI's own SDK and by what is not it."""

import json
import time
from email.utils import formatdate
from pathlib import Path

import oci
import requests
from tests.e2e.conftest import NewServer

from havre.auth import keys

IRIS = Path(__file__).parents[2] / "examples" / "iris"
ROW = [[5.1, 3.5, 1.4, 0.2]]
ONCE = {"retry_strategy": oci.retry.NoneRetryStrategy()}


class Tampered(requests.auth.AuthBase):
    """Signs one body and sends another."""

    def __init__(self, signer: oci.signer.Signer) -> None:
        self._signer = signer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = self._signer(request)
        assert isinstance(signed.body, bytes)
        signed.body = signed.body.replace(b"5.1", b"9.9").replace(b'"n"', b'"m"')
        return signed


def _signer(config: dict, key_file: str | None = None) -> oci.signer.Signer:
    key_file = key_file or config["key_file"]
    return oci.signer.Signer(config["tenancy"], config["user"], config["fingerprint"], key_file)


def _refusal(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def _told(answer: requests.Response) -> str:
    assert answer.status_code == 401
    return str(answer.json()["message"])


class Late(requests.auth.AuthBase):
    """A client whose clock is wrong: signed as it should be, an hour ago."""

    def __init__(self, signer: requests.auth.AuthBase) -> None:
        self._signer = signer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["date"] = formatdate(time.time() - 3600, usegmt=True)
        return self._signer(request)


def test_only_signed_requests_are_answered(new_server: NewServer, tmp_path: Path) -> None:
    server = new_server(HAVRE_AUTH="oci")
    profile = server.profile
    server.havre("deploy", str(IRIS), "--name", "iris")  # the commands sign by themselves
    assert json.loads(server.havre("predict", "iris", json.dumps(ROW)).stdout) == {
        "prediction": ["setosa"]
    }
    config = oci.config.from_file(profile["file"], profile["profile"])
    science = oci.data_science.DataScienceClient(config, service_endpoint=server.url, **ONCE)
    (deployment,) = science.list_model_deployments(config["tenancy"]).data
    for endpoint in (server.url, f"{server.url}/pre/fix", f"{server.url}/"):
        client = oci.model_deployment.ModelDeploymentClient(
            config, service_endpoint=endpoint, **ONCE
        )
        assert json.loads(client.predict(deployment.id, ROW).data) == {"prediction": ["setosa"]}

    predict, models = f"{deployment.model_deployment_url}/predict", f"{server.url}/20190101/models"
    refused = (401, "NotAuthenticated")
    assert _refusal(requests.post(predict, json=ROW)) == refused
    assert _refusal(requests.post(f"{predict}?a=b", json=ROW)) == refused
    assert _refusal(requests.get(models, params={"compartmentId": "c"})) == refused
    assert _refusal(requests.post(models, json={})) == refused
    assert _told(requests.post(predict, json=ROW)).startswith("Sign the request")
    for asked in (predict, models):
        late = Late(_signer(config))
        told = _told(requests.post(asked, json=ROW, auth=late))
        assert "date is more than 5 minutes from this server's clock (20" in told
    tampered = Tampered(_signer(config))
    assert _refusal(requests.post(predict, json=ROW, auth=tampered)) == refused
    assert _refusal(requests.post(models, json={"n": 1}, auth=tampered)) == refused
    stranger = oci_key(tmp_path / "stranger.pem")
    assert _refusal(requests.post(predict, json=ROW, auth=_signer(config, stranger))) == refused
    for nonsense in ("Signature", 'Signature headers="date', "Signature " + "x" * 5000, "é"):
        headers = {"authorization": nonsense.encode("latin-1")}
        assert _refusal(requests.post(predict, json=ROW, headers=headers)) == refused
    assert requests.get(f"{server.url}/healthz").status_code == 200
    token = (server.home / "keys" / "metrics_token").read_text().strip()
    bearer = {"authorization": f"Bearer {token}"}
    assert requests.get(f"{server.url}/metrics", headers=bearer).status_code == 200
    assert _refusal(requests.get(f"{server.url}/metrics")) == refused
    wrong = {"authorization": f"Bearer {token[:-1]}"}
    assert _refusal(requests.get(f"{server.url}/metrics", headers=wrong)) == refused
    assert _refusal(requests.get(models, headers=bearer)) == refused


def test_a_key_counts_from_when_it_is_registered(new_server: NewServer) -> None:
    server = new_server(HAVRE_AUTH="oci")
    server.havre("deploy", str(IRIS), "--name", "iris")
    config = oci.config.from_file(server.profile["file"], server.profile["profile"])
    science = oci.data_science.DataScienceClient(config, service_endpoint=server.url, **ONCE)
    (deployment,) = science.list_model_deployments(config["tenancy"]).data
    url = f"{deployment.model_deployment_url}/predict"
    second = server.home / "second.config"
    server.havre("oci-config", "--output", str(second))
    other = oci.config.from_file(str(second), "HAVRE")
    assert requests.post(url, json=ROW, auth=_signer(other)).status_code == 200


def test_others_are_let_in_only_when_requests_are_signed(new_server: NewServer) -> None:
    server = new_server(HAVRE_AUTH="oci")
    server.havre("down")
    refused = server.havre(
        "up", "--host", "0.0.0.0", "--port", "0", "--detach", "--auth", "off", check=False
    )
    assert refused.returncode == 1
    assert "auth is off" in refused.stderr


def oci_key(path: Path) -> str:
    path.write_bytes(keys.private_pem(keys.new_key()))
    return str(path)
