"""A small client of the public API, for the commands. Speaks what the OCI clients speak."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from havre.domain import errors
from havre.domain.metrics import NAMESPACE
from havre.domain.states import FINISHED, WorkRequestState

API = "/20190101"
MONITORING = "/20180401"
SEARCH = "/20190909/search"
SEARCHED_AT_ONCE = 1000
FIRST_POLL_S, LONGEST_POLL_S = 0.05, 1.0
CHUNK = 1024 * 1024
PREDICT_TIMEOUT_S = 65.0

Resource = dict[str, Any]


class ApiError(errors.HavreError):
    """The server refused or failed: its code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class Client:
    """``url`` is the server's; ``compartment_id`` and ``project_id`` are where things are made.

    ``signer`` signs each request; None where the server lets everybody in.
    """

    def __init__(
        self, url: str, *, compartment_id: str, project_id: str, signer: httpx.Auth | None = None
    ) -> None:
        self.url = url
        self.compartment_id = compartment_id
        self.project_id = project_id
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False, auth=signer)

    def create_model(self, name: str, **fields: Any) -> Resource:
        return self._json("POST", "/models", self._owned(displayName=name, **fields))

    def upload_artifact(
        self, model_id: str, archive: Path, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send a zip file; ``on_bytes`` takes the size of each piece that went out."""
        with archive.open("rb") as file:
            self._check(
                self._http.post(
                    f"{API}/models/{model_id}/artifact",
                    content=_pieces(file, on_bytes),
                    headers={
                        "content-length": str(archive.stat().st_size),
                        "content-type": "application/octet-stream",
                        "content-disposition": f"attachment; filename={model_id}.zip",
                    },
                    timeout=None,
                )
            )

    def delete_model(self, model_id: str) -> None:
        self._check(self._http.delete(f"{API}/models/{model_id}"))

    def create_deployment(
        self, name: str, configuration: Resource, tags: dict[str, str] | None = None
    ) -> tuple[Resource, str]:
        """The deployment, still CREATING, and its work request's id."""
        body = self._owned(
            displayName=name,
            modelDeploymentConfigurationDetails=configuration,
            freeformTags=tags or {},
        )
        answer = self._check(self._http.post(f"{API}/modelDeployments", json=body))
        return answer.json(), answer.headers["opc-work-request-id"]

    def update_deployment(
        self, deployment_id: str, configuration: Resource, tags: dict[str, str] | None = None
    ) -> str:
        """The work request's id. ``tags`` None: they stay as they are."""
        body: Resource = {"modelDeploymentConfigurationDetails": configuration}
        if tags is not None:
            body["freeformTags"] = tags
        answer = self._check(self._http.put(f"{API}/modelDeployments/{deployment_id}", json=body))
        return answer.headers["opc-work-request-id"]

    def delete_deployment(self, deployment_id: str) -> str:
        """The work request's id."""
        answer = self._check(self._http.delete(f"{API}/modelDeployments/{deployment_id}"))
        return answer.headers["opc-work-request-id"]

    def deployment(self, deployment_id: str) -> Resource:
        return self._json("GET", f"/modelDeployments/{deployment_id}")

    def deployments(self, **filters: str) -> list[Resource]:
        """Newest first, deleted ones left out."""
        rows = self._pages("/modelDeployments", filters)
        return [row for row in rows if row["lifecycleState"] != "DELETED"]

    def find_deployment(self, name_or_id: str) -> Resource:
        """By id, or by a display name that only one has. Raises NotFound, Conflict."""
        if name_or_id.startswith("ocid1."):
            return self.deployment(name_or_id)
        found = self.deployments(displayName=name_or_id)
        if not found:
            raise errors.NotFound(
                f"there is no deployment called {name_or_id!r}; `havre list` shows what there is"
            )
        if len(found) > 1:
            ids = ", ".join(row["id"] for row in found)
            raise errors.Conflict(f"{len(found)} deployments are called {name_or_id!r}: {ids}")
        return found[0]

    def change_under_way(self, deployment_id: str) -> Resource | None:
        """The work request that is not finished, if there is one."""
        for request in self._pages("/workRequests", {"resourceId": deployment_id}):
            if WorkRequestState(request["status"]) not in FINISHED:
                return request
        return None

    def cancel(self, work_request_id: str) -> None:
        """Ask for the end of a change. Raises ApiError if it has ended, or cannot be undone."""
        self._check(self._http.delete(f"{API}/workRequests/{work_request_id}"))

    def follow(self, work_request_id: str) -> Iterator[tuple[Resource, list[str]]]:
        """The work request and its new log lines, until it is finished."""
        told, pause = 0, FIRST_POLL_S
        while True:
            request = self._json("GET", f"/workRequests/{work_request_id}")
            lines = [row["message"] for row in self._pages(f"/workRequests/{work_request_id}/logs")]
            yield request, lines[told:]
            if WorkRequestState(request["status"]) in FINISHED:
                return
            pause = FIRST_POLL_S if len(lines) > told else min(LONGEST_POLL_S, pause * 1.5)
            told = len(lines)
            time.sleep(pause)

    def search_logs(
        self, query: str, *, since: datetime, until: datetime, most: int
    ) -> list[Resource]:
        """What a search finds, in its order; at most ``most``. Raises ApiError."""
        body = {
            "timeStart": since.isoformat(),
            "timeEnd": until.isoformat(),
            "searchQuery": query,
        }
        rows: list[Resource] = []
        parameters: dict[str, str | int] = {}
        while True:
            parameters["limit"] = min(most - len(rows), SEARCHED_AT_ONCE)
            answer = self._check(self._http.post(SEARCH, json=body, params=parameters))
            rows += [row["data"] for row in answer.json()["results"]]
            if len(rows) >= most or "opc-next-page" not in answer.headers:
                return rows
            parameters["page"] = answer.headers["opc-next-page"]

    def predict(self, deployment_id: str, body: bytes, content_type: str) -> bytes:
        """The answer's body. Raises ApiError."""
        answer = self._http.post(
            f"/{deployment_id}/predict",
            content=body,
            headers={"content-type": content_type},
            timeout=PREDICT_TIMEOUT_S,
        )
        return self._check(answer).content

    def summarize_metrics(
        self, query: str, *, start: float, end: float, resolution: str
    ) -> list[Resource]:
        """What Monitoring says of a query, in all compartments; times are seconds since the epoch.

        Raises ApiError.
        """
        answer = self._http.post(
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
        series: list[Resource] = self._check(answer).json()
        return series

    def _owned(self, **fields: Any) -> Resource:
        return {"compartmentId": self.compartment_id, "projectId": self.project_id, **fields}

    def _json(self, method: str, path: str, body: Resource | None = None) -> Resource:
        answer: Resource = self._check(self._http.request(method, API + path, json=body)).json()
        return answer

    def _pages(self, path: str, filters: dict[str, str] | None = None) -> list[Resource]:
        query = {"compartmentId": self.compartment_id, **(filters or {})}
        rows: list[Resource] = []
        while True:
            answer = self._check(self._http.get(API + path, params=query))
            rows += answer.json()
            if "opc-next-page" not in answer.headers:
                return rows
            query["page"] = answer.headers["opc-next-page"]

    def _check(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        try:
            told = answer.json()
            raise ApiError(answer.status_code, told["code"], told["message"])
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(answer.status_code, "Unknown", answer.text[:500]) from error


def _pieces(file: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
        on_bytes(len(piece))
