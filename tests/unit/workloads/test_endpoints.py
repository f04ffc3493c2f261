"""The life of endpoints, over an engine in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from serving_fakes import SCOPE, World, deployment, read, until

from emulator.model.errors import ValidationError
from emulator.model.hosting import Deployment, Endpoint, EndpointStatus

NAME = "E"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.endpoints.shutdown()


def create(world: World, pending: Deployment, **tags: str) -> None:
    labels = {key.replace("_", ":", 1): value for key, value in tags.items()}
    world.endpoints.create(
        Endpoint(SCOPE, NAME, EndpointStatus.CREATING, 1.0, 1.0, {}, tags=labels, pending=pending)
    )


def endpoint(world: World) -> Endpoint:
    found = world.store.endpoint(SCOPE, NAME)
    assert found
    return found


def settled(world: World) -> Endpoint:
    until(lambda: not endpoint(world).status.in_progress, str(endpoint(world)))
    return endpoint(world)


def targets(world: World) -> list[str]:
    route = world.routes.find(SCOPE, NAME)
    table = route.table if route else None
    return [each.id for each in table.variants[0].targets] if table else []


def nothing_is_left(world: World) -> None:
    until(lambda: world.store.endpoint(SCOPE, NAME) is None)
    until(lambda: not world.runtime.running)
    until(lambda: not world.capacity.held)
    until(lambda: not world.store.instances())
    until(lambda: not list((world.path / "endpoints").glob("*/*/*/*")))
    assert world.routes.find(SCOPE, NAME) is None


def test_an_endpoint_is_in_service_once_all_instances_answer(world: World) -> None:
    create(world, deployment("one", count=2))
    assert endpoint(world).status is EndpointStatus.CREATING
    found = settled(world)
    assert (found.status, found.pending) == (EndpointStatus.IN_SERVICE, None)
    assert found.current
    assert found.current.config_name == "one"
    assert len(targets(world)) == 2
    assert world.endpoints.live(SCOPE, NAME)["v"].in_service == 2
    assert len(world.capacity.held) == 2
    world.endpoints.delete(SCOPE, NAME)
    nothing_is_left(world)


def test_a_name_is_taken_once(world: World) -> None:
    create(world, deployment("one"))
    with pytest.raises(ValidationError, match="already existing endpoint"):
        create(world, deployment("one"))


def test_two_starts_that_end_early_are_a_failure(world: World) -> None:
    create(world, deployment("one", behaviour="exits"))
    found = settled(world)
    assert found.status is EndpointStatus.FAILED
    assert found.failure_reason
    assert found.failure_reason.startswith("CannotStartContainerError. Please ensure")
    assert found.failure_reason.endswith("\nexits")
    assert world.runtime.launched == 2
    until(lambda: not world.capacity.held)
    with pytest.raises(ValidationError, match="can only be deleted"):
        world.endpoints.update(SCOPE, NAME, deployment("two"))
    world.endpoints.delete(SCOPE, NAME)
    nothing_is_left(world)


def test_no_answer_to_pings_in_time_is_a_failure(world: World) -> None:
    create(world, deployment("one", behaviour="silent", startup=0.0))
    reason = settled(world).failure_reason
    assert reason
    assert reason.startswith(
        "The primary container for production variant v did not pass the ping health check."
    )


def test_an_update_changes_over_when_the_new_instances_answer(world: World) -> None:
    create(world, deployment("one"))
    settled(world)
    (old,) = targets(world)
    world.endpoints.update(SCOPE, NAME, deployment("two"))
    with pytest.raises(ValidationError, match="Cannot update in-progress endpoint"):
        world.endpoints.update(SCOPE, NAME, deployment("three"))
    found = settled(world)
    assert found.current
    assert (found.status, found.current.config_name) == (EndpointStatus.IN_SERVICE, "two")
    (new,) = targets(world)
    assert new != old
    until(lambda: len(world.runtime.running) == 1)


def test_an_old_instance_ends_after_its_last_request(world: World) -> None:
    create(world, deployment("one"))
    settled(world)
    route = world.routes.find(SCOPE, NAME)
    assert route
    assert route.table
    (target,) = route.table.variants[0].targets
    target.enter(1.0)
    world.endpoints.update(SCOPE, NAME, deployment("two"))
    settled(world)
    assert len(world.runtime.running) == 2
    target.leave()
    until(lambda: len(world.runtime.running) == 1)


def test_an_update_that_fails_leaves_what_served(world: World) -> None:
    create(world, deployment("one"))
    settled(world)
    before = targets(world)
    world.endpoints.update(SCOPE, NAME, deployment("two", behaviour="exits"))
    found = settled(world)
    assert found.current
    assert (found.status, found.current.config_name) == (EndpointStatus.IN_SERVICE, "one")
    assert found.failure_reason
    assert targets(world) == before
    until(lambda: len(world.capacity.held) == 1)


def test_an_instance_that_dies_is_replaced(world: World) -> None:
    create(world, deployment("one", count=2))
    settled(world)
    before = targets(world)
    next(iter(world.runtime.running.values())).end(1)
    until(lambda: len(targets(world)) == 2 and targets(world) != before)
    assert endpoint(world).status is EndpointStatus.IN_SERVICE
    until(lambda: len(world.capacity.held) == 2)


def test_numbers_change_without_other_instances(world: World) -> None:
    create(world, deployment("one", count=1))
    settled(world)
    (first,) = targets(world)
    for count in (3, 1):
        current = endpoint(world).current
        changed = world.store.with_counts(current, {"v": count})
        assert changed
        world.endpoints.set_capacities(SCOPE, NAME, changed)
        settled(world)
        until(lambda count=count: len(targets(world)) == count)
        assert first in targets(world)


def test_a_start_that_fails_beside_a_healthy_instance_ends_the_change(world: World) -> None:
    create(world, deployment("one", count=1))
    settled(world)
    (first,) = targets(world)
    current = endpoint(world).current
    assert current
    broken = read({**current.sources, "behaviour": "exits", "desired": {"v": {"count": 2}}})
    world.endpoints.set_capacities(SCOPE, NAME, broken)
    found = settled(world)
    assert found.status is EndpointStatus.IN_SERVICE
    assert found.failure_reason
    assert found.failure_reason.startswith("CannotStartContainerError")
    assert found.current
    assert found.current.variants[0].count == 1
    assert targets(world) == [first]


def test_a_deletion_while_it_is_created_is_not_undone(world: World) -> None:
    create(world, deployment("one", behaviour="exits"))
    world.endpoints.delete(SCOPE, NAME)
    nothing_is_left(world)


def test_the_next_endpoint_of_a_name_has_a_route(world: World) -> None:
    for _ in range(3):
        create(world, deployment("one"))
        settled(world)
        assert len(targets(world)) == 1
        world.endpoints.delete(SCOPE, NAME)
        until(lambda: world.store.endpoint(SCOPE, NAME) is None)


def test_an_endpoint_that_waits_for_gpus_says_so_and_gets_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, gpus=1)
    create(world, deployment("one"))
    settled(world)
    world.endpoints.update(SCOPE, NAME, deployment("two"))
    until(lambda: any("GPU" in v.message for v in world.endpoints.live_next(SCOPE, NAME).values()))
    assert endpoint(world).status is EndpointStatus.UPDATING
    next(iter(world.runtime.running.values())).end(1)  # what holds the GPU dies
    until(lambda: endpoint(world).status is EndpointStatus.IN_SERVICE)
    world.endpoints.shutdown()


def test_an_update_in_place_needs_no_second_gpu(tmp_path: Path) -> None:
    world = World(tmp_path, gpus=1)
    create(world, deployment("one"), emulator_update="in-place")
    settled(world)
    world.endpoints.update(SCOPE, NAME, deployment("two"))
    until(lambda: not targets(world))
    route = world.routes.find(SCOPE, NAME)
    assert route
    assert route.table  # requests wait
    assert settled(world).status is EndpointStatus.IN_SERVICE
    assert len(targets(world)) == 1
    world.endpoints.shutdown()


def test_an_idle_variant_sleeps_and_wakes(world: World) -> None:
    create(world, deployment("one", min_count=0))
    settled(world)
    until(lambda: not world.capacity.held)
    assert endpoint(world).status is EndpointStatus.IN_SERVICE
    route = world.routes.find(SCOPE, NAME)
    assert route
    assert route.table
    assert route.table.variants[0].starting
    route.wake("v")
    until(lambda: len(targets(world)) == 1)


def test_an_endpoint_that_is_created_can_be_deleted(world: World) -> None:
    create(world, deployment("one", behaviour="silent"))
    until(lambda: bool(world.runtime.running))
    world.endpoints.delete(SCOPE, NAME)
    nothing_is_left(world)


def test_the_next_emulator_goes_on_with_the_instances(world: World) -> None:
    create(world, deployment("one", count=2))
    settled(world)
    before = sorted(targets(world))
    world.endpoints.shutdown()
    following = world.again()
    until(lambda: sorted(targets(following)) == before)
    assert following.runtime.launched == 0
    following.endpoints.delete(SCOPE, NAME)
    nothing_is_left(following)
    following.endpoints.shutdown()


def test_instances_that_are_lost_are_started_anew(world: World) -> None:
    create(world, deployment("one", count=2))
    settled(world)
    world.endpoints.shutdown()
    world.runtime.running.popitem()
    following = world.again()
    until(lambda: len(targets(following)) == 2)
    assert following.runtime.launched == 1
    following.endpoints.shutdown()


def test_a_deletion_that_an_emulator_did_not_finish_is_finished(world: World) -> None:
    create(world, deployment("one"))
    settled(world)
    world.endpoints.shutdown()
    world.store.change(SCOPE, NAME, lambda row: replace(row, status=EndpointStatus.DELETING))
    following = world.again()
    nothing_is_left(following)
    following.endpoints.shutdown()


def _live_a_life(world: World) -> None:
    """Create, update, delete; each again until the database takes it."""

    def stubbornly(act) -> None:
        done = []

        def tried() -> bool:
            with suppress(sqlite3.Error):
                act()
                done.append(1)
            return bool(done)

        until(tried)

    stubbornly(lambda: create(world, deployment("one")))
    settled(world)
    stubbornly(lambda: world.endpoints.update(SCOPE, NAME, deployment("two")))
    settled(world)
    stubbornly(lambda: world.endpoints.delete(SCOPE, NAME))
    nothing_is_left(world)


def test_a_database_that_fails_once_loses_nothing(tmp_path: Path) -> None:
    whole = World(tmp_path / "whole")
    _live_a_life(whole)
    whole.endpoints.shutdown()
    assert whole.database.writes > 8
    for failing in range(1, whole.database.writes + 1):
        world = World(tmp_path / str(failing))
        world.database.failing = frozenset({failing})
        _live_a_life(world)
        world.endpoints.shutdown()
