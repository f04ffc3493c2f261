"""How work with the object store ends when it does not succeed."""

from __future__ import annotations

from emulator.model.errors import EmulatorError


class StoreError(EmulatorError):
    """The object store refused or failed; whoever asked puts it into its own terms.

    `str(error)` is `<code> (<HTTP status>): <message>`, the form in which the service
    quotes S3 in a FailureReason.
    """

    def __init__(self, code: str, status: int, message: str, seconds: float = 0):
        """`seconds`: what the request took that failed, with all its repetitions."""
        super().__init__(f"{code} ({status}): {message}")
        self.seconds = seconds
        self.code = code
        self.status = status
        self.message = message

    @property
    def transient(self) -> bool:
        """May the same call work a little later?"""
        return self.status >= 500


class Cancelled(EmulatorError):
    """The caller's `cancelled` said yes."""
