"""What a home was begun with: settings that lead to another server when they differ.

A start in another shell, or after a change of ``havre.toml``, that loses the database's address
would open an empty one, or one of long ago; without the artifacts' folder models cannot be started,
and without ``auth`` everybody may call. So the control plane writes down what it has begun with, a
start with anything else is refused, and a change of one is requested by its name.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from havre import durable
from havre.domain.errors import IncorrectState, InvalidParameter, SystemFault
from havre.home import Home
from havre.settings import Settings

KEPT = ("database_url", "artifact_store", "auth")
_UNSTATED = {"database_url": "SQLite in the home", "artifact_store": "the folder in the home"}
# A password may have any character; one with @ in it has no / ? # after that.
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^@]*(?:@[^/?#@]*)*(?=@)|([?&])(?:ssl)?password=[^&]*&?")


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of which the home has kept another value than it is to have now."""

    name: str
    kept: Any
    requested: Any

    def __str__(self) -> str:
        kept, requested = (_format_value(self.name, value) for value in (self.kept, self.requested))
        return f"{self.name} was {kept} and is {requested} now"


def keep(home: Home, settings: Settings) -> None:
    """From now on this home is one that was begun with these. Raises OSError."""
    _write(home, _without_secrets(settings))


def change(home: Home, settings: Settings, names: Collection[str]) -> None:
    """Keep these settings by name instead of those kept before. Raises OSError, SystemFault."""
    kept, requested = _read(home), _without_secrets(settings)
    if kept:
        _write(home, {**kept, **{name: requested[name] for name in names}})


def check(home: Home, settings: Settings, *, changed: Collection[str] = ()) -> None:
    """Look whether a server with these settings is the one that the home was begun with.

    ``changed`` names those that may differ. Raises IncorrectState with both values of what differs,
    InvalidParameter for a name that means nothing, SystemFault.
    """
    if unknown := sorted(set(changed) - set(KEPT)):
        raise InvalidParameter(
            f"--change {unknown[0]} names nothing that a home keeps; it keeps {', '.join(KEPT)}"
        )
    refused = [
        difference
        for difference in _differences(home, settings)
        if difference.name in KEPT and difference.name not in changed
    ]
    if refused:
        words = " ".join(f"--change {difference.name}" for difference in refused)
        names = " and ".join(difference.name for difference in refused)
        raise IncorrectState(
            f"{home.root} was begun with other settings: {'; '.join(map(str, refused))}. State "
            f"{names} as before ({_where_to_set(refused)}), or change it for good: "
            f"`havre up {words}`"
        )


def check_running(home: Home, settings: Settings) -> None:
    """The same of a server that runs, for which every setting holds until it ends.

    Raises IncorrectState with both values of what differs.
    """
    if differences := _differences(home, settings):
        words = "".join(
            f" --change {difference.name}" for difference in differences if difference.name in KEPT
        )
        raise IncorrectState(
            f"the server of this home runs already, with other settings: "
            f"{'; '.join(map(str, differences))}. They hold from the next start on: `havre down`, "
            f"then `havre up{words}`"
        )


def notes(home: Home, settings: Settings) -> list[str]:
    """What else is not as at the last start, a sentence each: it may differ. Raises SystemFault."""
    return [
        f"unlike at the last start: {difference}"
        for difference in _differences(home, settings)
        if difference.name not in KEPT
    ]


def _where_to_set(refused: Collection[Difference]) -> str:
    variables = ", ".join(f"HAVRE_{difference.name.upper()}" for difference in refused)
    return f"a flag, {variables}, or havre.toml"


def _differences(home: Home, settings: Settings) -> list[Difference]:
    """None where the home has kept nothing; of a setting that it has not kept, none either."""
    kept = _read(home)
    return [
        Difference(name, kept[name], value)
        for name, value in _without_secrets(settings).items()
        if name in kept and kept[name] != value
    ]


def _without_secrets(settings: Settings) -> dict[str, Any]:
    """What is kept. A password may change, and is none of a message's business; where a server is
    reached is its supervisor's.
    """
    return {
        name: _PASSWORD.sub(r"\1\2", value) if isinstance(value, str) else value
        for name, value in asdict(settings).items()
        if name not in ("host", "port")
    }


def _write(home: Home, kept: Mapping[str, Any]) -> None:
    content = json.dumps(kept, indent=1).encode()
    try:
        if home.kept_settings.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    durable.write_file(home.kept_settings, content)


def _read(home: Home) -> dict[str, Any]:
    path = home.kept_settings
    try:
        kept = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, RecursionError, ValueError) as error:
        raise _damaged(home, str(error)) from error
    if not isinstance(kept, dict) or not all(isinstance(kept.get(name), str) for name in KEPT):
        raise _damaged(home, "it does not say what the home was begun with")
    return kept


def _damaged(home: Home, why: str) -> SystemFault:
    return SystemFault(
        f"{home.kept_settings} is damaged ({why}): restore it from a backup, or remove it once "
        f"you are sure that {', '.join(KEPT)} are what this home was begun with"
    )


def _format_value(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ":".join(value) or "empty"
    return str(value) or _UNSTATED.get(name, "empty")
