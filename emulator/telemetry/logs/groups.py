"""Log groups and streams made and removed on request, and how long a group's events are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from emulator.model.errors import ApiError, ResourceNotFound
from emulator.model.scope import Scope
from emulator.telemetry.logs.streams import NO_STREAM, RETENTION_FILE, LogStore

_EXISTS = "ResourceAlreadyExistsException"


def create_group(store: LogStore, scope: Scope, group: str) -> None:
    """A new, empty group; raises ApiError where there is one already."""
    folder = store.path(scope, group)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ApiError("The specified log group already exists", code=_EXISTS) from None
    except OSError as error:  # a name longer than the file system takes
        raise _unusable(error) from error
    store.mark(scope, group)


def create_stream(store: LogStore, scope: Scope, group: str, stream: str) -> None:
    """A new, empty stream; raises ResourceNotFound without its group."""
    _existing(store, scope, group)
    try:
        store.path(scope, group, stream).touch(exist_ok=False)
    except FileExistsError:
        raise ApiError("The specified log stream already exists", code=_EXISTS) from None
    except OSError as error:
        raise _unusable(error) from error


def delete_group(store: LogStore, scope: Scope, group: str) -> None:
    """Remove a group with all its streams; raises ResourceNotFound."""
    shutil.rmtree(_existing(store, scope, group))


def delete_stream(store: LogStore, scope: Scope, group: str, stream: str) -> None:
    """Remove a stream; raises ResourceNotFound."""
    _existing(store, scope, group)
    try:
        store.path(scope, group, stream).unlink()
    except OSError as error:
        raise ResourceNotFound(NO_STREAM) from error


def set_retention(store: LogStore, scope: Scope, group: str, days: int | None) -> None:
    """Say how long a group's events are kept; raises ResourceNotFound.

    LogStore.prune removes streams by it. With None the emulator's own retention time holds.
    """
    file = _existing(store, scope, group) / RETENTION_FILE
    if days is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(str(days))


def retention_of(store: LogStore, scope: Scope, group: str) -> int | None:
    """The days of `set_retention`; None if none were set."""
    try:
        return int((store.path(scope, group) / RETENTION_FILE).read_text())
    except FileNotFoundError:
        return None


def _existing(store: LogStore, scope: Scope, group: str) -> Path:
    store.require(scope, group)
    return store.path(scope, group)


def _unusable(error: OSError) -> ApiError:
    return ApiError(f"The name cannot be used: {error.strerror}", code="InvalidParameterException")
