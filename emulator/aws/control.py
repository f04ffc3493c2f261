"""What AWS has no operation for: seeding faults, and taking the instances of a spot job away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, HTTPException, Query, Request, Response

from emulator.model.errors import ApiError, ValidationError
from emulator.model.faults import Chance, Kind, read_fault
from emulator.model.scope import Scope
from emulator.model.workload import Kind as WorkloadKind
from emulator.model.workload import WorkloadId
from emulator.resources import KINDS
from emulator.resources.training import TRAINING, job_id
from emulator.settings import Settings
from emulator.workloads.fault_book import FaultBook

_BY_ROUTE = {f"{kind.name}s": kind for kind in KINDS}
Disturb = Callable[[str], None]
"""Called with an operation's name before it is carried out; raises ApiError."""


class Runs(Protocol):
    """Who can take the instances of a job away."""

    def kill(self, key: WorkloadId) -> object:
        """Raises ValidationError if the job is unknown or is not being stopped."""
        ...

    def interrupt(self, key: WorkloadId, away: float = 0) -> object:
        """Raises ValidationError if the job is unknown or has none."""
        ...


def disturb_operations(book: FaultBook) -> Disturb:
    """The seeded faults of API operations, in the service's own words."""

    def disturb(operation: str) -> None:
        if book.strike(Chance(Kind.THROTTLING, operation=operation)):
            raise ApiError("Rate exceeded", code="ThrottlingException")  # seen
        if book.strike(Chance(Kind.INTERNAL_FAILURE, operation=operation)):
            raise internal_failure()

    return disturb


def internal_failure() -> ApiError:
    """The common error of all services (API reference)."""
    return ApiError(
        "The request processing has failed because of an unknown error, exception or failure.",
        code="InternalFailure",
        status=500,
    )


def _json_object(text: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("A fault is a JSON object.")
    return found


@contextmanager
def _job_errors(key: WorkloadId, kind: WorkloadKind) -> Iterator[None]:
    """404 for a job that does not exist, 409 for one that cannot do it now."""
    try:
        yield
    except ValidationError as error:
        unknown = error.message == kind.not_found(key.name)
        raise HTTPException(404 if unknown else 409, error.message) from error


def routes(book: FaultBook, runs: Runs, settings: Settings) -> APIRouter:
    """What docs/faults.md and docs/spot.md describe; mount it below /_emulator."""
    router = APIRouter()

    @router.get("/faults")
    def list_faults() -> dict[str, Any]:
        return {"faults": book.listing()}

    @router.post("/faults", status_code=201)
    async def add_fault(request: Request) -> dict[str, Any]:
        try:
            added = book.add(read_fault(_json_object(await request.body())))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return next(fault for fault in book.listing() if fault["id"] == added.id)

    @router.delete("/faults", status_code=204)
    def clear_faults() -> Response:
        book.clear()
        return Response(status_code=204)

    @router.delete("/faults/{fault_id}", status_code=204)
    def remove_fault(fault_id: str) -> Response:
        if not book.remove(fault_id):
            raise HTTPException(404, f"There is no fault {fault_id}.")
        return Response(status_code=204)

    @router.post("/{jobs}/{name}/kill", status_code=202)
    def kill(
        jobs: str, name: str, region: str = settings.region, account: str = settings.account
    ) -> dict[str, Any]:
        kind = _BY_ROUTE.get(jobs)
        if kind is None:
            raise HTTPException(404, f"There are no {jobs}.")
        key = WorkloadId(kind.name, Scope(account, region), name)
        with _job_errors(key, kind):
            runs.kill(key)
        return {"killed": name}

    @router.post("/training-jobs/{name}/interrupt", status_code=202)
    def interrupt(
        name: str,
        region: str = settings.region,
        account: str = settings.account,
        seconds: Annotated[float, Query(ge=0, le=86_400)] = 0,
    ) -> dict[str, Any]:
        key = job_id(Scope(account, region), name)
        with _job_errors(key, TRAINING):
            runs.interrupt(key, seconds)
        return {"interrupted": name}

    return router
