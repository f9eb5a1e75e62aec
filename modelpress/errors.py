"""What can go wrong for a caller of the client.

ClientError
├── InvalidInput         the arguments cannot be sent: a missing file, an unknown format or option
├── ServerUnreachable    nothing answers at the address
├── TransferError        an upload or download did not arrive whole
└── ProblemError         the server answered with a problem (RFC 9457), kept as `problem`
    ├── Unauthorized     401, 403
    ├── NotFound         404, 410
    ├── Conflict         409
    ├── InvalidRequest   every other 4xx: what was sent cannot be used
    └── ServiceFault     429 and 5xx: the same request may work later
"""

from app.contracts.problem import Problem


class ClientError(Exception):
    """Base of everything the client raises."""


class InvalidInput(ClientError):
    """The arguments cannot be turned into a request; the message names the cure."""


class ServerUnreachable(ClientError):
    """Nothing answers at the address."""


class TransferError(ClientError):
    """The bytes did not arrive whole, also after trying again."""


class ProblemError(ClientError):
    """The server refused or failed. `problem` says why, who can cure it and how."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem; the message is its detail, which names the first fault, and the other faults."""
        faults = "".join(f"\n  {fault.pointer}: {fault.detail}" for fault in problem.errors[1:])
        super().__init__(f"{problem.title}: {problem.detail}{faults}")
        self.problem = problem


class Unauthorized(ProblemError):
    """The API key is missing, unknown or may not do this."""


class NotFound(ProblemError):
    """No such resource is visible to this key."""


class Conflict(ProblemError):
    """The request does not fit the present state of the resource."""


class InvalidRequest(ProblemError):
    """What was sent cannot be used as it is."""


class ServiceFault(ProblemError):
    """The service could not do its part now."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: ServiceFault,
}
_FIRST_SERVER_STATUS = 500


def problem_error(problem: Problem) -> ProblemError:
    """Return the error class that fits the problem's status."""
    fallback = ServiceFault if problem.status >= _FIRST_SERVER_STATUS else InvalidRequest
    return _BY_STATUS.get(problem.status, fallback)(problem)
