"""A small client of the public API, for the commands. Speaks what the OCI clients speak."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from havre.auth.signer import DIGEST, file_digest
from havre.domain import errors, namesakes
from havre.domain.metrics import NAMESPACE
from havre.domain.states import FINISHED, DeploymentState, WorkRequestState

API = "/20190101"
MONITORING = "/20180401"
SEARCH = "/20190909/search"
SEARCH_PAGE = 1000
FIRST_POLL_S, MAX_POLL_S = 0.05, 1.0
CHUNK = 1024 * 1024
PREDICT_TIMEOUT_S = 65.0

EXPLAINED = frozenset(
    {DeploymentState.NEEDS_ATTENTION, DeploymentState.FAILED, DeploymentState.INACTIVE}
)
"""States that need a reason."""

Resource = dict[str, Any]


class ApiError(errors.HavreError):
    """The server refused or failed: its code and message, and the id that the request got."""

    def __init__(self, status: int, code: str, message: str, request: str = "") -> None:
        self.status = status
        self.code = code
        self.request = request
        super().__init__(message)


class Client:
    """``url`` is the server's; what is created gets ``compartment_id`` and ``project_id``.

    ``signer`` signs each request; None where the server requires no signatures.
    """

    def __init__(
        self, url: str, *, compartment_id: str, project_id: str, signer: httpx.Auth | None = None
    ) -> None:
        self.url = url
        self.compartment_id = compartment_id
        self.project_id = project_id
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False, auth=signer)

    def health(self) -> Resource:
        """The server's version and role. Raises ApiError when it is not healthy."""
        response: Resource = self._check(self._http.get("/healthz")).json()
        return response

    def create_model(self, name: str, **fields: Any) -> Resource:
        return self._json("POST", "/models", self._owned(displayName=name, **fields))

    def upload_artifact(
        self, model_id: str, archive: Path, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send a zip file; ``on_bytes`` takes the size of each piece that went out.

        Its hash is a signed header: a body that differs from it is refused.
        """
        with archive.open("rb") as file:
            digest = file_digest(file)
            file.seek(0)
            self._check(
                self._http.post(
                    f"{API}/models/{model_id}/artifact",
                    content=_pieces(file, on_bytes),
                    headers={
                        "content-length": str(archive.stat().st_size),
                        "content-type": "application/octet-stream",
                        "content-disposition": f"attachment; filename={model_id}.zip",
                        DIGEST: digest,
                    },
                    timeout=None,
                )
            )

    def models(self, **filters: str) -> list[Resource]:
        """Newest first, deleted ones left out."""
        rows = self._pages("/models", filters)
        return [row for row in rows if row["lifecycleState"] != "DELETED"]

    def model(self, model_id: str) -> Resource:
        return self._json("GET", f"/models/{model_id}")

    def artifact_digest(self, model_id: str) -> str:
        """SHA-256 of a model's artifact, in hex. Raises ApiError."""
        return self._check(self._http.head(f"{API}/models/{model_id}/artifact/content")).headers[
            "etag"
        ]

    def delete_model(self, model_id: str) -> None:
        self._check(self._http.delete(f"{API}/models/{model_id}"))

    def create_deployment(
        self,
        name: str,
        configuration: Resource,
        tags: dict[str, str] | None = None,
        *,
        is_only: bool = False,
    ) -> tuple[Resource, str]:
        """The deployment, still CREATING, and its work request's id.

        ``is_only``: raises ApiError 412 if there is one of this name.
        """
        body = self._owned(
            displayName=name,
            modelDeploymentConfigurationDetails=configuration,
            freeformTags=tags or {},
        )
        condition = {"if-none-match": "*"} if is_only else {}
        response = self._check(
            self._http.post(f"{API}/modelDeployments", json=body, headers=condition)
        )
        return response.json(), response.headers["opc-work-request-id"]

    def update_deployment(
        self,
        deployment_id: str,
        configuration: Resource,
        tags: dict[str, str] | None = None,
        *,
        etag: str | None = None,
    ) -> str:
        """The work request's id. ``tags`` None: they stay as they are.

        ``etag``: raises ApiError 412 if it is not that of the deployment any more.
        """
        body: Resource = {"modelDeploymentConfigurationDetails": configuration}
        if tags is not None:
            body["freeformTags"] = tags
        condition = {} if etag is None else {"if-match": etag}
        response = self._check(
            self._http.put(f"{API}/modelDeployments/{deployment_id}", json=body, headers=condition)
        )
        return response.headers["opc-work-request-id"]

    def delete_deployment(self, deployment_id: str) -> str:
        """The work request's id."""
        response = self._check(self._http.delete(f"{API}/modelDeployments/{deployment_id}"))
        return response.headers["opc-work-request-id"]

    def deployment(self, deployment_id: str) -> Resource:
        return self._json("GET", f"/modelDeployments/{deployment_id}")

    def deployment_and_etag(self, deployment_id: str) -> tuple[Resource, str]:
        response = self._check(self._http.get(f"{API}/modelDeployments/{deployment_id}"))
        return response.json(), response.headers["etag"]

    def deployments(self, **filters: str) -> list[Resource]:
        """Newest first, deleted ones left out."""
        rows = self._pages("/modelDeployments", filters)
        return [row for row in rows if row["lifecycleState"] != "DELETED"]

    def explained_deployments(self) -> list[Resource]:
        """The same; those that do not serve have ``lifecycleDetails``, which lists leave out."""
        rows = self.deployments()
        for row in rows:
            if row["lifecycleState"] in EXPLAINED:
                try:
                    row["lifecycleDetails"] = self.deployment(row["id"])["lifecycleDetails"]
                except ApiError as error:
                    if error.status != HTTPStatus.NOT_FOUND:  # deleted meanwhile
                        raise
        return rows

    def find_deployment(self, name_or_id: str) -> Resource:
        """By id, or by a display name that only one has. Raises NotFound, Conflict."""
        if name_or_id.startswith("ocid1."):
            return self.deployment(name_or_id)
        rows = self.deployments(displayName=name_or_id)
        return dict(namesakes.meant_by(name_or_id, rows, datetime.now(UTC)))

    def find_deployment_or_deleted(self, name_or_id: str) -> Resource:
        """The same; if there is none any more, the latest deleted one of that name."""
        try:
            return self.find_deployment(name_or_id)
        except errors.NotFound:
            deleted = self._pages("/modelDeployments", {"displayName": name_or_id})
            if not deleted:
                raise
            return deleted[0]

    def running_change(self, deployment_id: str) -> Resource | None:
        """The unfinished work request of a deployment, if there is one."""
        for request in self._pages("/workRequests", {"resourceId": deployment_id}):
            if WorkRequestState(request["status"]) not in FINISHED:
                return request
        return None

    def cancel(self, work_request_id: str) -> None:
        """Cancel a change. Raises ApiError if it has finished, or cannot be undone."""
        self._check(self._http.delete(f"{API}/workRequests/{work_request_id}"))

    def follow(self, work_request_id: str) -> Iterator[tuple[Resource, list[str]]]:
        """The work request and its new log lines, until it is finished."""
        shown, pause = 0, FIRST_POLL_S
        while True:
            request = self._json("GET", f"/workRequests/{work_request_id}")
            lines = [row["message"] for row in self._pages(f"/workRequests/{work_request_id}/logs")]
            yield request, lines[shown:]
            if WorkRequestState(request["status"]) in FINISHED:
                return
            pause = FIRST_POLL_S if len(lines) > shown else min(MAX_POLL_S, pause * 1.5)
            shown = len(lines)
            time.sleep(pause)

    def search_logs(
        self, query: str, *, since: datetime, until: datetime, max_entries: int
    ) -> list[Resource]:
        """What a search finds, in its order; at most ``max_entries``. Raises ApiError."""
        body = {
            "timeStart": since.isoformat(),
            "timeEnd": until.isoformat(),
            "searchQuery": query,
        }
        rows: list[Resource] = []
        parameters: dict[str, str | int] = {}
        while True:
            parameters["limit"] = min(max_entries - len(rows), SEARCH_PAGE)
            response = self._check(self._http.post(SEARCH, json=body, params=parameters))
            rows += [row["data"] for row in response.json()["results"]]
            if len(rows) >= max_entries or "opc-next-page" not in response.headers:
                return rows
            parameters["page"] = response.headers["opc-next-page"]

    def predict(self, deployment_id: str, body: bytes, content_type: str, *, at: str = "") -> bytes:
        """The response body; ``at`` is the server's address, if not ours. Raises ApiError."""
        response = self._http.post(
            f"{at}/{deployment_id}/predict",
            content=body,
            headers={"content-type": content_type},
            timeout=PREDICT_TIMEOUT_S,
        )
        return self._check(response).content

    def summarize_metrics(
        self, query: str, *, start: float, end: float, resolution: str
    ) -> list[Resource]:
        """Monitoring's result of a query, over all compartments; times are seconds since the epoch.

        Raises ApiError.
        """
        response = self._http.post(
            f"{MONITORING}/metrics/actions/summarizeMetricsData",
            params={"compartmentId": self.compartment_id, "compartmentIdInSubtree": True},
            json={
                "namespace": NAMESPACE,
                "query": query,
                "startTime": datetime.fromtimestamp(start, UTC).isoformat(),
                "endTime": datetime.fromtimestamp(end, UTC).isoformat(),
                "resolution": resolution,
            },
        )
        series: list[Resource] = self._check(response).json()
        return series

    def _owned(self, **fields: Any) -> Resource:
        return {"compartmentId": self.compartment_id, "projectId": self.project_id, **fields}

    def _json(self, method: str, path: str, body: Resource | None = None) -> Resource:
        response: Resource = self._check(self._http.request(method, API + path, json=body)).json()
        return response

    def _pages(self, path: str, filters: dict[str, str] | None = None) -> list[Resource]:
        query = {"compartmentId": self.compartment_id, **(filters or {})}
        rows: list[Resource] = []
        while True:
            response = self._check(self._http.get(API + path, params=query))
            rows += response.json()
            if "opc-next-page" not in response.headers:
                return rows
            query["page"] = response.headers["opc-next-page"]

    def _check(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        request = response.headers.get("opc-request-id", "")
        try:
            error = response.json()
            raise ApiError(response.status_code, error["code"], error["message"], request)
        except (ValueError, KeyError, TypeError) as fault:
            raise ApiError(response.status_code, "Unknown", response.text[:500], request) from fault


def _pieces(file: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
        on_bytes(len(piece))
