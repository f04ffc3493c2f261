from __future__ import annotations

import pytest

from emulator.model.errors import IllegalTransition
from emulator.model.lifecycle import Lifecycle, Phase, Status
from emulator.resources.training.words import WORDS


def trained() -> Lifecycle:
    return (
        Lifecycle.begin(100.0, WORDS.starting)
        .say(WORDS.preparing, 101.0)
        .enter(Phase.DOWNLOADING, WORDS.downloading, 102.0)
        .say(WORDS.downloading_image, 103.0)
        .enter(Phase.RUNNING, WORDS.running, 104.5)
    )


def test_the_plain_path() -> None:
    life = (
        trained()
        .enter(Phase.UPLOADING, WORDS.uploading, 110.0)
        .finish(Phase.COMPLETED, WORDS.completed, 111.25)
    )
    assert [(t.status.value, t.started, t.ended, t.message) for t in life.transitions] == [
        ("Starting", 100.0, 102.0, "Preparing the instances for training"),
        ("Downloading", 102.0, 104.5, "Downloading the training image"),
        ("Running", 104.5, 110.0, "Training image download completed. Training in progress."),
        ("Uploading", 110.0, 111.25, "Uploading generated training model"),
        ("Completed", 111.25, 111.25, "Training job completed"),
    ]
    assert (life.created, life.started, life.ended) == (100.0, 102.0, 111.25)
    assert life.status is Status.COMPLETED
    assert life.modified >= 111.25


def test_a_stop_shows_in_the_status_before_the_secondary_status() -> None:
    asked = trained().request_stop(105.0)
    assert (asked.status, asked.phase) == (Status.STOPPING, Phase.RUNNING)
    assert asked.request_stop(106.0) == asked
    stopped = asked.enter(Phase.STOPPING, WORDS.stopping, 105.5).finish(
        Phase.STOPPED, WORDS.stopped, 107.0
    )
    assert stopped.status is Status.STOPPED
    assert not stopped.stop_requested


def test_too_long_a_runtime_ends_as_stopped() -> None:
    life = trained().request_stop(200.0).enter(Phase.STOPPING, WORDS.stopping, 200.0)
    life = life.finish(Phase.MAX_RUNTIME_EXCEEDED, WORDS.max_runtime_exceeded, 201.0)
    assert (life.status, life.phase) == (Status.STOPPED, Phase.MAX_RUNTIME_EXCEEDED)


def test_a_job_that_never_got_to_its_data_has_no_training_times() -> None:
    life = Lifecycle.begin(100.0, WORDS.starting).finish(
        Phase.FAILED, WORDS.failed, 101.0, "ClientError: x"
    )
    assert (life.started, life.ended) == (None, None)
    assert life.failure_reason == "ClientError: x"


def test_a_clock_set_back_does_not_turn_time_around() -> None:
    life = trained().enter(Phase.UPLOADING, WORDS.uploading, 50.0)
    assert life.transitions[-1].started == life.transitions[-2].ended == 104.5


def test_times_are_whole_milliseconds() -> None:
    assert Lifecycle.begin(1.23456).created == 1.235


@pytest.mark.parametrize(
    "step",
    [
        lambda life: life.enter(Phase.RUNNING, "", 102.0),
        lambda life: life.enter(Phase.UPLOADING, "", 102.0),
        lambda life: life.enter(Phase.COMPLETED, "", 102.0),
        lambda life: life.finish(Phase.COMPLETED, "", 102.0),
        lambda life: life.finish(Phase.RUNNING, "", 102.0),
    ],
)
def test_steps_that_do_not_follow_a_start(step: object) -> None:
    assert callable(step)
    with pytest.raises(IllegalTransition):
        step(Lifecycle.begin(100.0, WORDS.starting))


def test_nothing_follows_an_end() -> None:
    ended = trained().finish(Phase.FAILED, WORDS.failed, 105.0, "x" * 2000)
    assert ended.failure_reason == "x" * 1024
    for step in (
        lambda: ended.say("", 106.0),
        lambda: ended.request_stop(106.0),
        lambda: ended.enter(Phase.UPLOADING, "", 106.0),
        lambda: ended.finish(Phase.FAILED, "", 106.0),
    ):
        with pytest.raises(IllegalTransition):
            step()
