"""The instances of one deployment of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from emulator.model.errors import InternalServerError, JobError
from emulator.model.hosting import Deployment, LiveVariant, VariantSpec
from emulator.workloads.serving.instance import EndedEarly, ModelInstance, State
from emulator.workloads.serving.routes import RoutedVariant, Table

_TRIES = 2
"""Starts of an instance that ends before it answers a ping: the service tries for half an hour."""
_PLATFORM_TRIES = 4
"""Starts that fail for what is neither the request's nor the container's fault."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
"""Seconds between two starts in the place of an instance that has served and died."""

StartInstance = Callable[[VariantSpec], ModelInstance]


@dataclass
class _Members:
    """The instances of a variant."""

    instances: list[ModelInstance] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    """The ids of those that have been in service."""
    early_ends: int = 0
    """Of instances in a row that never served."""
    failure: JobError | None = None
    """Why the last one that was not wanted to end has ended."""
    pause: float = _FIRST_PAUSE
    not_before: float = 0.0
    """When the next one may be started (monotonic seconds)."""
    asleep: bool = False
    """It has no instance until a request comes."""
    lasting_since: float = 0.0


class InstanceSet:
    """Keeps as many instances of each variant as are wanted. Only its endpoint's thread uses it."""

    def __init__(
        self,
        deployment: Deployment,
        number: int,
        start: StartInstance,
        monotonic: Callable[[], float],
        idle_after: Callable[[VariantSpec], float | None],
    ):
        """`idle_after` gives the seconds after which a variant gives its instances back."""
        self.deployment = deployment
        self.number = number
        self._start = start
        self._monotonic = monotonic
        self._idle_after = idle_after
        self._members: dict[str, _Members] = {}

    def add(self, instance: ModelInstance) -> None:
        """An instance that an earlier emulator has started."""
        self._of(instance.spec.variant).instances.append(instance)

    def settle(self) -> None:
        """After a recovery: a variant that may have no instance, and has none, sleeps."""
        for variant in self.deployment.all_variants:
            members = self._of(variant)
            members.asleep = not members.instances and self._idle_after(variant) is not None

    def __iter__(self) -> Iterator[ModelInstance]:
        for members in self._members.values():
            yield from members.instances

    def reap(self) -> list[ModelInstance]:
        """Take in what has become of the instances since; those that have failed, and still end."""
        ending: list[ModelInstance] = []
        for members in self._members.values():
            for instance in tuple(members.instances):
                if instance.failure is not None and instance.state is not State.STARTING:
                    members.instances.remove(instance)
                    self._count(members, instance)
                    ending.append(instance)
                elif instance.state is State.GONE:
                    members.instances.remove(instance)
                elif instance.state is State.IN_SERVICE and instance.spec.id not in members.served:
                    members.served.add(instance.spec.id)
                    members.early_ends, members.failure = 0, None
        return [instance for instance in ending if instance.state is not State.GONE]

    def forgive(self) -> None:
        """What has failed is told; the next change begins anew."""
        for members in self._members.values():
            members.early_ends, members.failure, members.not_before = 0, None, 0.0

    def failed_counts(self) -> Mapping[str, int]:
        """By variant that cannot have as many instances as it wants, how many it has."""
        return {
            name: max(1, sum(one.state is State.IN_SERVICE for one in members.instances))
            for name, members in self._members.items()
            if members.failure and members.early_ends >= _tries(members.failure)
        }

    def fill(self) -> None:
        """Start what is missing. Raises RuntimeError where there can be no more threads."""
        for variant in self.deployment.all_variants:
            members = self._of(variant)
            while (
                not members.asleep
                and len(members.instances) < variant.count
                and self._monotonic() >= members.not_before
            ):
                members.instances.append(self._start(variant))

    def surplus(self) -> list[ModelInstance]:
        """Instances that are too many; they are out of the set, and of the table to come."""
        gone: list[ModelInstance] = []
        wanted = {variant.name: variant.count for variant in self.deployment.all_variants}
        for name, members in self._members.items():
            while len(members.instances) > (0 if members.asleep else wanted.get(name, 0)):
                newest = min(members.instances, key=_worth)
                members.instances.remove(newest)
                gone.append(newest)
        return gone

    def doze(self, now: float) -> None:
        """Let variants sleep that no request has come to for their time; `now` in epoch seconds."""
        for variant in self.deployment.all_variants:
            after = self._idle_after(variant)
            members = self._of(variant)
            if after is None or members.asleep or not members.instances:
                continue
            members.asleep = all(
                instance.state is State.IN_SERVICE
                and instance.target is not None
                and not instance.target.open
                and now - max(instance.target.used, instance.since) >= after
                for instance in members.instances
            )

    def wake(self, name: str) -> None:
        """A request has come for a variant without instances."""
        if members := self._members.get(name):
            members.asleep = False
            members.not_before = 0.0

    def failure(self) -> JobError | None:
        """Why the deployment cannot serve: an instance fails for good."""
        for members in self._members.values():
            if members.failure and members.early_ends >= _tries(members.failure):
                return members.failure
        return None

    @property
    def ready(self) -> bool:
        """Whether every variant has as many instances in service as it wants."""
        return all(
            self._of(variant).asleep or self._in_service(variant) >= variant.count
            for variant in self.deployment.all_variants
        )

    def table(self) -> Table:
        return Table(
            self.deployment,
            tuple(map(self._routed, self.deployment.variants)),
            tuple(map(self._routed, self.deployment.shadows)),
        )

    def live(self, status: str | None) -> Mapping[str, LiveVariant]:
        """By variant, for Describe; `status` is the VariantStatus of what is not ready."""
        found = {}
        for variant in self.deployment.all_variants:
            starting = [one for one in self._of(variant).instances if one.state is State.STARTING]
            said = starting[0] if starting else None
            found[variant.name] = LiveVariant(
                self._in_service(variant),
                status if said else None,
                said.message if said else "",
                said.since if said else 0.0,
            )
        return found

    def _of(self, variant: VariantSpec) -> _Members:
        return self._members.setdefault(variant.name, _Members())

    def _count(self, members: _Members, instance: ModelInstance) -> None:
        """An instance has ended that nobody wanted to end."""
        if instance.adopted and instance.target is None:
            return  # it was lost while no emulator ran
        members.failure = instance.failure
        if instance.target is not None:
            members.pause = _FIRST_PAUSE
            return
        members.early_ends += 1
        if members.early_ends > 1:
            members.not_before = self._monotonic() + members.pause
            members.pause = min(2 * members.pause, _LONGEST_PAUSE)

    def _in_service(self, variant: VariantSpec) -> int:
        members = self._of(variant).instances
        return sum(instance.state is State.IN_SERVICE for instance in members)

    def _routed(self, variant: VariantSpec) -> RoutedVariant:
        members = self._of(variant)
        targets = tuple(
            instance.target
            for instance in members.instances
            if instance.state is State.IN_SERVICE and instance.target
        )
        return RoutedVariant(variant, targets, starting=len(targets) < max(variant.count, 1))


def _tries(failure: JobError) -> int:
    """After how many starts it is why a deployment fails."""
    if isinstance(failure, EndedEarly):
        return _TRIES
    return _PLATFORM_TRIES if isinstance(failure, InternalServerError) else 1


def _worth(instance: ModelInstance) -> tuple[bool, float]:
    """Those that do not serve yet go first, then the newest."""
    return instance.state is State.IN_SERVICE, -instance.since


def retire(instances: Iterable[ModelInstance], hurry: bool = False) -> None:
    """Let them finish their requests and end."""
    for instance in instances:
        instance.retire(hurry)
