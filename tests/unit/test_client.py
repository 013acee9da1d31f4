"""What the commands' client asks for beside what lists have."""

import httpx

from havre.client import API, Client

STATES = {"a": "ACTIVE", "b": "NEEDS_ATTENTION", "c": "FAILED", "d": "INACTIVE", "e": "DELETED"}
DETAILS = {"b": "its copies keep dying", "c": None}


def answer(request: httpx.Request) -> httpx.Response:
    path = request.url.path.removeprefix(f"{API}/modelDeployments").strip("/")
    if not path:
        rows = [{"id": key, "lifecycleState": state} for key, state in STATES.items()]
        return httpx.Response(200, json=rows)
    if path == "d":
        return httpx.Response(404, json={"code": "NotAuthorizedOrNotFound", "message": "gone"})
    return httpx.Response(200, json={"id": path, "lifecycleDetails": DETAILS[path]})


def test_what_does_not_serve_is_explained_and_nothing_else_is_asked_for() -> None:
    client = Client("http://127.0.0.1:1", compartment_id="c", project_id="p")
    client._http = httpx.Client(
        base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer)
    )
    rows = {row["id"]: row.get("lifecycleDetails", "") for row in client.explained_deployments()}
    assert rows == {"a": "", "b": "its copies keep dying", "c": None, "d": ""}
