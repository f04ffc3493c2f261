"""The answers to the S3 port's questions, in the process that knows them."""

from __future__ import annotations

from emulator.aws.s3.control import UNREACHABLE, Disturbance
from emulator.data.objectstore.availability import Availability
from emulator.model.faults import Chance, Kind
from emulator.workloads.fault_book import FaultBook


class LocalControl:
    """Answers from the fault book and the availability of this process."""

    def __init__(self, faults: FaultBook | None = None, availability: Availability | None = None):
        self.faults = faults or FaultBook()
        self._availability = availability or Availability()

    @property
    def seeded(self) -> bool:
        return not self.faults.is_empty

    async def disturbance(self, bucket: str) -> Disturbance:
        return self.disturbance_now(bucket)

    async def store_problem(self) -> str:
        return self.store_problem_now()

    def disturbance_now(self, bucket: str) -> Disturbance:
        slow = self.faults.strike(Chance(Kind.SLOW_S3, bucket=bucket))
        refused = self.faults.strike(Chance(Kind.SLOW_DOWN, bucket=bucket))
        return Disturbance(slow.seconds if slow else 0, refused is not None)

    def store_problem_now(self) -> str:
        reason = self._availability.problem()
        self._availability.note(reason or UNREACHABLE)
        return reason
