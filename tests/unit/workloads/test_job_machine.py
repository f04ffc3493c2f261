"""Whatever happens to a job in whatever order, its record stays sound."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emulator.database import Database
from emulator.model.errors import IllegalTransition
from emulator.model.lifecycle import Lifecycle, Phase, Status
from emulator.model.scope import Scope
from emulator.resources import KINDS
from emulator.resources.training import job_id, training_job
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SCOPE = Scope("123456789012", "us-east-1")
REQUEST = {
    "TrainingJobName": "job",
    "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
}
moments = st.floats(-5, 30, allow_nan=False)
texts = st.text(max_size=5)


class JobMachine(RuleBasedStateMachine):
    """Random steps, legal or not, with a clock that may be set back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "emulator.db", MIGRATIONS)
        self.store = JobStore(self.database, KINDS)
        self.now = 1_000.0
        self.life = self.store.create(training_job(REQUEST, SCOPE), self.now).life

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @rule(gap=moments)
    def time_passes(self, gap: float) -> None:
        self.now += gap

    @rule(status=st.sampled_from(Phase), message=texts)
    def enter(self, status: Phase, message: str) -> None:
        self.attempt(lambda life: life.enter(status, message, self.now))

    @rule(message=texts)
    def say(self, message: str) -> None:
        self.attempt(lambda life: life.say(message, self.now))

    @rule()
    def stop(self) -> None:
        self.attempt(lambda life: life.request_stop(self.now))

    @precondition(lambda self: len(self.life.transitions) > 2)
    @rule(status=st.sampled_from(Phase), reason=st.none() | st.text(min_size=1, max_size=2000))
    def finish(self, status: Phase, reason: str | None) -> None:
        self.attempt(lambda life: life.finish(status, "the end", self.now, reason))

    def attempt(self, step: object) -> None:
        before = self.life
        try:
            assert callable(step)
            self.life = self.store.change(job_id(SCOPE, "job"), step).life
        except IllegalTransition:
            self.life = before
        assert not (before.status.terminal and self.life != before), "an end is final"
        assert self.life.modified >= before.modified

    @invariant()
    def what_is_kept_is_what_was_said(self) -> None:
        job = self.store.get(job_id(SCOPE, "job"))
        assert job is not None
        assert job.life == self.life

    @invariant()
    def neighbours_share_their_boundary(self) -> None:
        for one, other in pairwise(self.life.transitions):
            assert one.ended == other.started
            assert one.started <= other.started
        assert self.life.created == self.life.transitions[0].started == 1_000.0

    @invariant()
    def only_the_end_has_an_end(self) -> None:
        last = self.life.transitions[-1]
        assert last.ended == (last.started if self.life.status.terminal else None)
        assert (self.life in [job.life for job in self.store.unfinished()]) == (
            not self.life.status.terminal
        )

    @invariant()
    def training_times_belong_to_the_data(self) -> None:
        life: Lifecycle = self.life
        starts = [t.started for t in life.transitions if t.status is Phase.DOWNLOADING]
        assert life.started == (starts[0] if starts else None)
        ended = life.status.terminal and bool(starts)
        assert life.ended == (life.transitions[-1].ended if ended else None)
        assert life.modified >= (life.ended or 0)

    @invariant()
    def the_two_statuses_agree(self) -> None:
        ends = {Phase.COMPLETED: Status.COMPLETED, Phase.FAILED: Status.FAILED}
        terminal = self.life.phase not in set(Phase) - {
            *ends,
            Phase.STOPPED,
            Phase.MAX_RUNTIME_EXCEEDED,
            Phase.MAX_WAIT_TIME_EXCEEDED,
        }
        assert self.life.status.terminal == terminal
        if terminal:
            assert self.life.status is ends.get(self.life.phase, Status.STOPPED)
        assert len(self.life.failure_reason or "") <= 1024


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
