"""Endpoints without an engine: what is asked for is there at once, or when a test says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from emulator.model.errors import ValidationError
from emulator.model.hosting import Deployment, Endpoint, EndpointStatus, LiveVariant
from emulator.model.scope import Scope
from emulator.workloads.serving.store import ENDPOINT, HostingStore, endpoint_row


class FakeEndpoints:
    """Keeps rows as the engine does, and starts nothing."""

    def __init__(self, store: HostingStore, at_once: bool = True):
        self._store = store
        self.at_once = at_once
        """Whether what is asked for serves at once; else `settle` says when."""

    def create(self, endpoint: Endpoint) -> None:
        self._store.create(endpoint_row(endpoint))
        self._settle(endpoint.scope, endpoint.name)

    def update(self, scope: Scope, name: str, deployment: Deployment) -> Endpoint:
        def step(endpoint: Endpoint) -> Endpoint:
            if endpoint.status.in_progress:
                raise ValidationError(f'Cannot update in-progress endpoint "{endpoint.arn}".')
            return replace(endpoint, status=EndpointStatus.UPDATING, pending=deployment)

        self._store.change(scope, name, step)
        return self._settle(scope, name)

    def set_capacities(self, scope: Scope, name: str, deployment: Deployment) -> Endpoint:
        return self.update(scope, name, deployment)

    def delete(self, scope: Scope, name: str) -> None:
        self._store.delete(ENDPOINT, scope, name)

    def live(self, scope: Scope, name: str) -> Mapping[str, LiveVariant]:
        endpoint = self._store.endpoint(scope, name)
        current = endpoint.current if endpoint else None
        return {each.name: LiveVariant(each.count) for each in current.variants} if current else {}

    def live_next(self, *_: object) -> Mapping[str, LiveVariant]:
        return {}

    def settle(self, scope: Scope, name: str) -> Endpoint:
        """What is pending serves from now on."""
        return self._store.change(
            scope,
            name,
            lambda endpoint: replace(
                endpoint,
                status=EndpointStatus.IN_SERVICE,
                current=endpoint.pending,
                pending=None,
            ),
        )

    def _settle(self, scope: Scope, name: str) -> Endpoint:
        if self.at_once:
            return self.settle(scope, name)
        endpoint = self._store.endpoint(scope, name)
        assert endpoint is not None
        return endpoint
