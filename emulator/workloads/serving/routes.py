"""Which instances answer the requests of an endpoint now.

The life cycle publishes frozen tables; the event loop that serves requests reads the newest one,
and counts the requests that each instance works on.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition

from emulator.model.hosting import Deployment, VariantSpec
from emulator.model.scope import Scope

Dial = Callable[[int], socket.socket]
"""A connection to a container of an instance, by its place in VariantSpec.containers.

It may block for a moment. Raises OSError where nothing answers there.
"""


Unpack = Callable[[int, str, str], str]
"""Brings the archive that TargetModel names to a multi-model container (by its place), into a
directory of the name that the last argument gives; where the container finds it.

It blocks until the model is there. Raises JobError.
"""


@dataclass(eq=False)
class Target:
    """An instance that requests can be sent to."""

    id: str
    """i-<17 hex>"""
    dial: Dial
    unpack: Unpack | None = None
    """Of an instance with a multi-model container."""
    open: int = 0
    """Requests that it works on; only the event loop changes it."""
    used: float = 0.0
    """When the last request came (epoch seconds)."""
    idle: Condition = field(default_factory=Condition)
    """Is notified when `open` has become 0."""

    def enter(self, now: float) -> None:
        """A request is sent to it; `leave` follows."""
        self.open += 1
        self.used = now

    def leave(self) -> None:
        """A request to it is over."""
        self.open -= 1
        if self.open == 0:
            with self.idle:
                self.idle.notify_all()


@dataclass(frozen=True)
class RoutedVariant:
    """A variant, and its instances that answer pings."""

    spec: VariantSpec
    targets: tuple[Target, ...]
    starting: bool = False
    """Others are about to come, or come when a request wakes them."""


@dataclass(frozen=True)
class Table:
    """Where requests go."""

    deployment: Deployment
    variants: tuple[RoutedVariant, ...]
    shadows: tuple[RoutedVariant, ...] = ()


class Route:
    """The way to one endpoint."""

    def __init__(self, scope: Scope, name: str):
        self.scope = scope
        self.name = name
        self.table: Table | None = None
        """None while nothing has served yet."""
        self._watchers: list[Callable[[], None]] = []
        self._wake: Callable[[str], None] = lambda _: None

    def publish(self, table: Table | None) -> None:
        """From now on requests go there; those on their way are not touched."""
        self.table = table
        for tell in tuple(self._watchers):
            tell()

    def watch(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell`, from any thread, whenever there is another table; gives what ends that."""
        self._watchers.append(tell)
        return lambda: self._watchers.remove(tell)

    def on_wake(self, wake: Callable[[str], None]) -> None:
        """What to do when a request meets a variant of that name that has no instance."""
        self._wake = wake

    def wake(self, variant: str) -> None:
        """A request waits for an instance of a variant that has none. Returns at once."""
        self._wake(variant)


class Routes:
    """The ways to all endpoints. Any thread may use it."""

    def __init__(self) -> None:
        self._routes: dict[tuple[Scope, str], Route] = {}

    def find(self, scope: Scope, name: str) -> Route | None:
        return self._routes.get((scope, name))

    def open(self, scope: Scope, name: str) -> Route:
        """The way to an endpoint, which is made where there is none."""
        return self._routes.setdefault((scope, name), Route(scope, name))

    def close(self, scope: Scope, name: str) -> None:
        """The endpoint is gone."""
        if route := self._routes.pop((scope, name), None):
            route.publish(None)


def pick_variant(
    variants: Sequence[RoutedVariant], draw: Callable[[], float] = random.random
) -> RoutedVariant | None:
    """One variant by its weight (share = weight / sum of the weights); None if all weigh nothing.

    `draw` gives a number from 0 up to 1.
    """
    total = sum(variant.spec.weight for variant in variants)
    if total <= 0:
        return None
    point = draw() * total
    for variant in variants:
        point -= variant.spec.weight
        if point < 0:
            return variant
    return next(variant for variant in reversed(variants) if variant.spec.weight > 0)


def pick_target(variant: RoutedVariant, draw: Callable[[], float] = random.random) -> Target | None:
    """The instance for the next request: the one with the fewest open, or any at random."""
    targets = variant.targets
    if not targets:
        return None
    if variant.spec.random:
        return targets[int(draw() * len(targets))]
    fewest = min(target.open for target in targets)
    best = [target for target in targets if target.open == fewest]
    return best[int(draw() * len(best))]
