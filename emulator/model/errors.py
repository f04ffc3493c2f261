"""Every error the emulator raises on purpose.

EmulatorError
├── ApiError            an AWS client gets it as its operation's error
│   ├── ValidationError         ValidationException
│   ├── ResourceInUse           ResourceInUse
│   ├── ResourceNotFound        ResourceNotFoundException
│   ├── UnknownOperation        UnknownOperationException
│   └── NotBuilt                the operation exists at AWS but not here yet
├── JobError            it ends a training job; its text is the FailureReason
│   ├── AlgorithmError          the user's code failed
│   ├── ClientError             the request or the user's data is at fault
│   ├── CapacityError           this machine cannot give what was asked for
│   └── InternalServerError     the emulator or its environment is at fault
├── SetupError          the emulator cannot start or reach something; says what to do
└── IllegalTransition   a job was asked to do what its status does not allow
"""

from __future__ import annotations

import errno

FAILURE_REASON_LIMIT = 1024
"""Characters that DescribeTrainingJob keeps of a FailureReason (API reference)."""
SLOW_DOWN = "Please reduce your request rate."
"""S3's message with the code SlowDown (API reference)."""
_BEGINNING = 200
"""Characters that a shortened text keeps of its beginning, which names the kind of failure."""
_SQLITE_FULL = "database or disk is full"
_LEFT_OUT = " [...] "


def shortened(text: str, room: int) -> str:
    """At most `room` characters: the beginning and the end, where a traceback names the cause."""
    if len(text) <= room:
        return text
    beginning = text[: min(_BEGINNING, room // 4)]
    return f"{beginning}{_LEFT_OUT}{text[len(text) - room + len(beginning) + len(_LEFT_OUT) :]}"


def disk_full(error: BaseException, where: str) -> str | None:
    """What a full disk has hit, if that is what an error comes from.

    `where` is named for errors that do not name a path themselves: a write does not.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EmulatorError) and cause.no_space:
            return cause.no_space
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{cause.strerror}: {cause.filename or where}"
        if str(cause) == _SQLITE_FULL:
            return f"No space left on device: the database of the emulator, {where}"
        cause = cause.__cause__ or cause.__context__
    return None


ERROR_LIMIT = 32_768
"""Characters of an error's message: a request is not repeated to whoever sent it."""


class EmulatorError(Exception):
    """The root of the tree; never raised itself."""

    no_space = ""
    """Which disk is full, if that is the reason."""


class ApiError(EmulatorError):
    """An operation is refused: `code` goes into `__type`, the text into `message`."""

    code = "ValidationException"
    status = 400

    hint = ""
    """What may help the user of the emulator, and AWS does not say; it goes into the log."""

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None):
        message = message if len(message) <= ERROR_LIMIT else f"{message[:ERROR_LIMIT]}..."
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status


class ValidationError(ApiError):
    """The request breaks a constraint or a rule of the service."""


class ResourceInUse(ApiError):
    """A training job of that name exists already."""

    code = "ResourceInUse"


class ResourceNotFound(ApiError):
    """A log group, log stream, role or other named thing does not exist."""

    code = "ResourceNotFoundException"


class UnknownOperation(ApiError):
    """The service has no operation of that name."""

    code = "UnknownOperationException"


class NotBuilt(ApiError):
    """AWS has this operation and the emulator does not, yet."""

    code = "NotImplementedException"
    status = 501


class JobError(EmulatorError):
    """Ends a training job as Failed; `str(error)` is its FailureReason."""

    prefix = "InternalServerError"

    def __init__(self, message: str):
        super().__init__(shortened(f"{self.prefix}: {message}", FAILURE_REASON_LIMIT))


class AlgorithmError(JobError):
    """The training container ended with a code other than 0.

    The text is `<content of /opt/ml/output/failure>, exit code: N`; without a failure
    file the part before the comma is empty (documented). A longer text loses its middle.
    """

    prefix = "AlgorithmError"

    def __init__(self, failure: str, exit_code: int):
        tail = f", exit code: {exit_code}"
        room = FAILURE_REASON_LIMIT - len(self.prefix) - 2 - len(tail)
        super().__init__(f"{shortened(failure, room)}{tail}")


class ClientError(JobError):
    """The request, the data or the permissions are at fault, not the script."""

    prefix = "ClientError"


class CapacityError(JobError):
    """The instances asked for cannot be had on this machine."""

    prefix = "CapacityError"


class InternalServerError(JobError):
    """The emulator, the runtime or the object store is at fault."""

    prefix = "InternalServerError"


class SetupError(EmulatorError):
    """Something the emulator needs is not there; `remedy` says what to do about it."""

    def __init__(self, problem: str, remedy: str = ""):
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy


class IllegalTransition(EmulatorError):
    """A status change that the lifecycle does not have (a bug, or a lost race with a stop)."""
