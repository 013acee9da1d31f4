"""Everything havre can refuse or fail, in one tree, with stable codes and no HTTP.

HavreError
├── Refused                     the caller's fault: nothing was changed
│   ├── InvalidParameter        a field is wrong; the message names it and says how to correct it
│   ├── MissingParameter
│   ├── CannotParse             the body is not what its content type says
│   ├── LimitExceeded           the request needs more than the machine or a limit allows
│   ├── RelatedNotFound         an id inside the body names nothing
│   ├── NotFound                the id in the path names nothing
│   ├── Conflict                permanent refusal in the present state
│   ├── IncorrectState          transient refusal: trying again later may work
│   ├── RetryTokenInvalid       a retry token was used before for another request
│   ├── EtagMismatch
│   ├── NotAuthenticated
│   ├── TooLarge
│   ├── TooBusy                 others are served first; the same works soon
│   ├── NotImplementedHere      a known operation that this server does not have
│   └── SettingInvalid
├── ModelFault                  the fault of the model's artifact, score.py or environment
│   ├── ArtifactInvalid
│   └── EnvironmentFault
└── SystemFault                 ours or the machine's: disk full, database locked, Envoy gone
    ├── Unavailable             nothing was changed; what runs keeps running
    │   └── StateUnavailable    the database is away, locked or full: no change is to blame
    │       └── LeaseLost       this control plane may not reconcile, now or any more
    └── EngineFault
"""

from collections.abc import Sequence


class HavreError(Exception):
    """Base of the tree. ``code`` is stable and reaches clients; the text says what to do."""

    code = "InternalServerError"

    @property
    def message(self) -> str:
        return str(self)


class Refused(HavreError):
    code = "InvalidParameter"


class InvalidParameter(Refused):
    """One or several fields are wrong; all problems are reported at once."""

    code = "InvalidParameter"

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class MissingParameter(InvalidParameter):
    code = "MissingParameter"


class CannotParse(Refused):
    code = "CannotParseRequest"


class LimitExceeded(Refused):
    code = "LimitExceeded"


class RelatedNotFound(Refused):
    code = "RelatedResourceNotAuthorizedOrNotFound"


class NotFound(Refused):
    code = "NotAuthorizedOrNotFound"


class Conflict(Refused):
    code = "Conflict"


class IncorrectState(Refused):
    code = "IncorrectState"


class RetryTokenInvalid(Refused):
    code = "InvalidatedRetryToken"


class EtagMismatch(Refused):
    code = "NoEtagMatch"


class NotAuthenticated(Refused):
    code = "NotAuthenticated"


class TooLarge(Refused):
    code = "PayloadTooLarge"


class TooBusy(Refused):
    code = "TooManyRequests"


class NotImplementedHere(Refused):
    code = "MethodNotImplemented"


class SettingInvalid(Refused):
    code = "InvalidParameter"


class ModelFault(HavreError):
    """What the owner of the model must fix; the text is the work request's last log line."""

    code = "ModelFault"


class ArtifactInvalid(ModelFault):
    code = "InvalidArtifact"


class EnvironmentFault(ModelFault):
    code = "EnvironmentFailed"


class SystemFault(HavreError):
    code = "InternalServerError"


class Unavailable(SystemFault):
    code = "ServiceUnavailable"


class StateUnavailable(Unavailable):
    pass


class LeaseLost(StateUnavailable):
    pass


class EngineFault(SystemFault):
    code = "InternalServerError"
