"""A running change, shown while it goes on. The server carries it out: this command only watches.

Ctrl-C ends the watching; a message then says what goes on and how to cancel it.
"""

import shlex
from typing import Any

from rich.console import Console

from havre.cli import output
from havre.client import Client
from havre.domain.errors import ModelFault
from havre.domain.states import Operation


def follow(client: Client, work_request_id: str, console: Console, *, name: str) -> None:
    """Show a work request's log as it grows. ``name`` is the deployment's, as a command takes it.

    Raises ModelFault with its last line if it failed.
    """
    request, last = follow_to_its_end(client, work_request_id, console, name=name)
    if request["status"] != "SUCCEEDED":
        raise ModelFault(f"{request['operationType']} {request['status']}: {last}")


def follow_to_its_end(
    client: Client, work_request_id: str, console: Console, *, name: str
) -> tuple[dict[str, Any], str]:
    """The finished work request and its last line."""
    request: dict[str, Any] = {}
    last = ""
    try:
        with console.status("") as status:
            for request, lines in client.follow(work_request_id):
                for line in lines:
                    shown = output.fit_for_terminal(line)
                    console.print(f"  {shown}", soft_wrap=True, markup=False)
                    last = line
                status.update(f"{request['status'].lower()}, {request['percentComplete']:.0f} %")
    except KeyboardInterrupt:
        output.print_fault(what_goes_on(request.get("operationType", ""), name))
        raise
    return request, last


def wait_for(client: Client, work_request_id: str, console: Console, *, name: str) -> None:
    """Wait until somebody else's change is over, however it ends."""
    try:
        with console.status("waiting") as status:
            for request, _ in client.follow(work_request_id):
                status.update(
                    f"waiting: {request['operationType']} is {request['status'].lower()}, "
                    f"{request['percentComplete']:.0f} %"
                )
    except KeyboardInterrupt:
        output.print_fault(f"nothing of {name} was changed; the change it was waiting for goes on")
        raise


def what_goes_on(operation: str, name: str) -> str:
    """The message for somebody who stops watching a change."""
    called = shlex.quote(name)
    if operation == Operation.MODEL_DEPLOYMENT_DELETE:
        return f"the deletion of {called} goes on and cannot be canceled; `havre list` shows it"
    return (
        f"the change of {called} goes on without this command: `havre cancel {called}` cancels it, "
        "`havre list` shows its state"
    )
