"""The only place where errors become status codes, in one JSON shape: ``{code, message}``."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from havre.domain import errors
from havre.domain.reported import shorten
from havre.messages import fit

MAX_PROBLEMS = 20
RETRY_AFTER_S = 2
"""``retry-after`` for a client that came while others were served."""

STATUS: dict[type[errors.HavreError], int] = {
    errors.HavreError: 500,
    errors.Refused: 400,
    errors.NotAuthenticated: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.IncorrectState: 409,
    errors.RetryTokenInvalid: 409,
    errors.EtagMismatch: 412,
    errors.TooLarge: 413,
    errors.TooBusy: 429,
    errors.NotImplementedHere: 501,
    errors.ModelFault: 400,
    errors.SystemFault: 500,
    errors.Unavailable: 503,
}
"""By class; a class that is not named here has the status of its nearest ancestor."""

_BY_STATUS = {
    400: errors.CannotParse.code,
    401: errors.NotAuthenticated.code,
    404: "NotFound",
    405: "MethodNotAllowed",
    413: errors.TooLarge.code,
    415: "UnsupportedMediaType",
    416: errors.InvalidParameter.code,
    501: errors.NotImplementedHere.code,
    503: errors.Unavailable.code,
}

_log = logging.getLogger(__name__)


def status_of(error: errors.HavreError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_response(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": shorten(message)}, status)


def unexpected_response(request_id: str) -> JSONResponse:
    """For unexpected errors: the reason is in the log, under the request's id."""
    return error_response(
        500,
        errors.HavreError.code,
        f"something went wrong on this server; its log has the reason under {request_id}",
    )


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(errors.HavreError, _havre_error_response)
    app.add_exception_handler(RequestValidationError, _invalid_request_response)
    app.add_exception_handler(HTTPException, http_exception_response)


async def _havre_error_response(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.HavreError)
    status = status_of(error)
    if status >= 500 and not isinstance(error, errors.NotImplementedHere):
        _log.error(
            "%s %s (%s): %s",
            request.method,
            request.url.path,
            request.scope["havre.request_id"],
            error,
            exc_info=None if isinstance(error, errors.Unavailable) else error,
        )
    # A model's fault is reported to its owner as a wrong parameter: clients know that code.
    code = errors.InvalidParameter.code if isinstance(error, errors.ModelFault) else error.code
    response = error_response(status, code, await _message_of(request, error))
    if isinstance(error, errors.TooBusy):
        response.headers["retry-after"] = str(RETRY_AFTER_S)
    return response


async def _message_of(request: Request, error: errors.HavreError) -> str:
    """A long message is kept whole where a build or the machine wrote it, not where a client did:
    clients' own would fill the folder, and they have it.
    """
    is_ours = isinstance(error, (errors.ModelFault, errors.SystemFault))
    if not is_ours or shorten(error.message) == error.message:
        return error.message
    return await run_in_threadpool(fit, error.message, request.app.state.services.home.messages)


async def _invalid_request_response(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        reason = "; ".join(str(problem["ctx"]["error"]) for problem in problems)
        return error_response(400, errors.CannotParse.code, f"the body is not JSON: {reason}")
    only_missing = all(problem["type"] == "missing" for problem in problems)
    kind = errors.MissingParameter if only_missing else errors.InvalidParameter
    return error_response(400, kind.code, _format_problems(problems))


async def http_exception_response(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is no {request.url.path} here; the API is below /20190101"
    elif error.status_code == 405:
        message = f"{request.method} is not a method of {request.url.path}"
    elif error.status_code == 400:
        message = "the body cannot be read as JSON"
    code = _BY_STATUS.get(error.status_code, errors.HavreError.code)
    response = error_response(error.status_code, code, message)
    response.headers.update(error.headers or {})
    return response


def _format_problems(problems: Sequence[Any]) -> str:
    lines = [_format_problem(problem) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"and {len(problems) - MAX_PROBLEMS} more problems")
    return "; ".join(lines)


def _format_problem(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path[1:])
    if problem["type"] == "missing":
        return f"{name} is required" if name else "a JSON object is required as the body"
    if problem["type"] in {"model_attributes_type", "model_type", "dict_type"} and not name:
        return "the body must be a JSON object, sent with content-type: application/json"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
