"""Which IAM roles there are: all of them, or those of the settings and those created since."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock

from emulator.model.errors import ApiError, ValidationError
from emulator.model.scope import Scope
from emulator.settings import Settings

CREATED = 1_514_764_800.0
"""When a role that nobody created was created, in epoch seconds: 2018-01-01."""


@dataclass(frozen=True)
class Role:
    """A role of one account; `trust` is None where it trusts SageMaker, as most do here."""

    arn: str
    created: float = CREATED
    trust: str | None = None
    policies: tuple[str, ...] = ()
    """ARNs of the managed policies attached to it."""
    tags: tuple[tuple[str, str], ...] = ()
    description: str | None = None

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def path(self) -> str:
        return self.arn.partition(":role")[2].removesuffix(self.name) or "/"


class Roles:
    """The roles of all accounts. What is created is kept as long as the emulator runs."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time):
        """Where the settings name no roles, every role exists; `clock` gives epoch seconds."""
        self._open = not settings.roles
        self._clock = clock
        self._lock = Lock()
        self._kept: dict[tuple[str, str], Role] = {}
        for arn in _arns([settings.role_arn, *settings.roles], settings.account):
            self._keep(Role(arn))

    def find(self, scope: Scope, name: str) -> Role | None:
        """The role of that name in the scope's account; None if there is none."""
        kept = self._kept.get((scope.account, name))
        if kept is not None or not self._open:
            return kept
        return Role(f"arn:{scope.partition}:iam::{scope.account}:role/{name}")

    def get(self, scope: Scope, name: str) -> Role:
        """The same; raises NoSuchEntity where there is none."""
        role = self.find(scope, name)
        if role is None:
            raise ApiError(
                f"The role with name {name} cannot be found.", code="NoSuchEntity", status=404
            )
        return role

    def of(self, scope: Scope) -> list[Role]:
        """The roles of the account that are known by name."""
        kept = [role for (account, _), role in self._kept.items() if account == scope.account]
        return sorted(kept, key=lambda role: role.name)

    def create(
        self, scope: Scope, name: str, path: str, trust: str, description: str | None = None
    ) -> Role:
        """A new role; raises EntityAlreadyExists."""
        with self._lock:
            if (scope.account, name) in self._kept:
                raise ApiError(
                    f"Role with name {name} already exists.",
                    code="EntityAlreadyExists",
                    status=409,
                )
            arn = f"arn:{scope.partition}:iam::{scope.account}:role{path}{name}"
            return self._keep(Role(arn, self._clock(), trust, description=description))

    def change(self, scope: Scope, name: str, step: Callable[[Role], Role]) -> Role:
        """Replace a role; raises NoSuchEntity."""
        with self._lock:
            return self._keep(step(self.get(scope, name)))

    def delete(self, scope: Scope, name: str) -> None:
        """Forget a role; raises NoSuchEntity."""
        with self._lock:
            self.get(scope, name)
            self._kept.pop((scope.account, name), None)

    def check(self, arn: str) -> None:
        """Raise ValidationError, as CreateTrainingJob does, for a role that does not exist."""
        if self._open or any(role.arn == arn for role in self._kept.values()):
            return
        raise ValidationError(  # seen
            f"Could not assume role {arn}. Please ensure that the role exists and allows "
            "principal 'sagemaker.amazonaws.com' to assume the role."
        )

    def _keep(self, role: Role) -> Role:
        self._kept[role.arn.split(":")[4], role.name] = role
        return role


def _arns(roles: Iterable[str], account: str) -> list[str]:
    """ARNs of roles that may be given by name."""
    return [
        role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}" for role in roles
    ]
