"""What is known of endpoints, and a request to one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from emulator.model.errors import ResourceNotFound
from emulator.model.hosting import Deployment, Endpoint, LiveVariant, VariantSpec, is_hidden
from emulator.model.scope import Scope
from emulator.telemetry.metrics.statistics import Sample
from emulator.telemetry.metrics.store import Series
from emulator.web import models
from emulator.web.logs import Logs, Place
from emulator.web.sources import Sources

NAMESPACE = "AWS/SageMaker"
"""Of the metrics of invocations (CloudWatch metrics for endpoints, developer guide)."""
FLUSH_SECONDS = 5.0
"""Requests are counted together for so long."""
REQUEST_SECONDS = 60.0
"""Of which figures for Prometheus tell."""
_HOUR = 3600.0
_COUNTED: Mapping[str, tuple[str, str]] = {
    "Invocations": ("None", "requests a second"),
    "ModelLatency": ("Microseconds", "latency"),
    "Invocation4XXErrors": ("None", "4XX answers"),
    "Invocation5XXErrors": ("None", "5XX answers"),
    "InvocationModelErrors": ("None", "model errors"),
}

_ERRORS = ("Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors")
"""Drawn only where there are some."""


@dataclass(frozen=True)
class AskedEndpoint:
    """Which endpoint a URL names."""

    name: str
    account: str = ""
    region: str = ""


class Endpoints:
    """Questions about endpoints of all scopes; each raises ResourceNotFound for an unknown one."""

    def __init__(self, sources: Sources):
        self._sources = sources
        self.logs = Logs(sources.logs)

    def all(self) -> list[models.EndpointSummary]:
        """Newest first."""
        found = reversed(self._sources.hosting.endpoints())
        return [self._summary(one) for one in found if not is_hidden(one.name)]

    def one(self, asked: AskedEndpoint) -> models.EndpointDetail:
        endpoint = self.find(asked)
        shown = endpoint.current or endpoint.pending
        return models.EndpointDetail(
            **self._summary(endpoint).model_dump(),
            arn=endpoint.arn,
            asynchronous=bool(shown and shown.queue),
            tags=dict(endpoint.tags),
            instances=self._instances(endpoint),
            streams=self.logs.streams(self.place(asked)),
            request=dict(shown.sources) if shown else dict(endpoint.request),
        )

    def find(self, asked: AskedEndpoint) -> Endpoint:
        scope = self._scope(asked)
        endpoint = self._sources.hosting.endpoint(scope, asked.name)
        if endpoint is None:
            raise ResourceNotFound(f"There is no endpoint {asked.name}.")
        return endpoint

    def place(self, asked: AskedEndpoint) -> Place:
        """Where its log streams are."""
        endpoint = self.find(asked)
        return Place(endpoint.scope, endpoint.log_group)

    def points(self, asked: AskedEndpoint, after: int) -> models.MetricPoints:
        """Figures of requests by variant; the cursor is in epoch milliseconds."""
        endpoint = self.find(asked)
        start = after / 1000 + 0.001 if after else time.time() - _HOUR
        series: list[models.MetricSeries] = []
        for deployment in filter(None, (endpoint.current, endpoint.pending)):
            known = {one.instance for one in series}
            for variant in deployment.all_variants:
                if variant.name not in known:
                    series += self._figures(endpoint, variant.name, start)
        last = max((int(one.at[-1] * 1000) + 1 for one in series), default=after)
        return models.MetricPoints(cursor=last, more=False, series=series)

    def invocation(self, asked: AskedEndpoint) -> Response:
        """An answer that passes the request on to the endpoint."""
        endpoint = self.find(asked)
        return _Invocation(self._sources.runtime, endpoint.scope, endpoint.name)

    def _scope(self, asked: AskedEndpoint) -> Scope:
        settings = self._sources.settings
        return Scope(asked.account or settings.account, asked.region or settings.region)

    def _figures(self, endpoint: Endpoint, variant: str, start: float) -> list[models.MetricSeries]:
        dimensions = (("EndpointName", endpoint.name), ("VariantName", variant))
        found: list[models.MetricSeries] = []
        for name, (unit, title) in _COUNTED.items():
            samples = self._sources.metrics.samples(
                endpoint.scope,
                Series(NAMESPACE, name, dimensions, unit),
                False,
                start,
                time.time() + _HOUR,
            ).get(unit, [])
            if not samples:
                continue
            at = [sample.at for sample in samples]
            for shown, values in _curves(title, samples).items():
                if any(values) or name not in _ERRORS:
                    found.append(
                        models.MetricSeries(name=shown, instance=variant, at=at, values=values)
                    )
        return found

    def _summary(self, endpoint: Endpoint) -> models.EndpointSummary:
        shown = endpoint.current or endpoint.pending
        live = self._sources.endpoints.live(endpoint.scope, endpoint.name)
        return models.EndpointSummary(
            name=endpoint.name,
            account=endpoint.scope.account,
            region=endpoint.scope.region,
            status=endpoint.status.value,
            config=shown.config_name if shown else "",
            created=endpoint.created,
            modified=endpoint.modified,
            variants=_variants(shown, live) if shown else [],
            failure_reason=endpoint.failure_reason,
        )

    def _instances(self, endpoint: Endpoint) -> list[models.ModelInstance]:
        route = self._sources.endpoints.routes.find(endpoint.scope, endpoint.name)
        table = route.table if route else None
        busy = (
            {
                target.id: target.open
                for variant in (*table.variants, *table.shadows)
                for target in variant.targets
            }
            if table
            else {}
        )
        return [
            models.ModelInstance(
                id=row.id,
                variant=row.variant,
                runtime=row.runtime,
                since=row.began,
                serves=row.serves,
                requests=busy.get(row.id, 0),
            )
            for row in self._sources.hosting.instances()
            if (row.scope, row.endpoint) == (endpoint.scope, endpoint.name)
        ]


def requests(sources: Sources, endpoint: Endpoint, variant: str, name: str, now: float) -> Sample:
    """The sum of a metric of a variant over the last REQUEST_SECONDS."""
    dimensions = (("EndpointName", endpoint.name), ("VariantName", variant))
    series = Series(NAMESPACE, name, dimensions, _COUNTED[name][0])
    start = now - REQUEST_SECONDS
    found = sources.metrics.samples(endpoint.scope, series, False, start, now + 1)
    samples = found.get(series.unit, [])
    return Sample(
        now,
        sum(sample.number for sample in samples),
        sum(sample.total for sample in samples),
        min((sample.minimum for sample in samples), default=0.0),
        max((sample.maximum for sample in samples), default=0.0),
    )


class _Invocation(Response):
    """Sends the request on to the runtime of endpoints, with the scope that is meant."""

    def __init__(self, runtime: ASGIApp, scope: Scope, name: str):
        super().__init__()
        self._runtime = runtime
        self._scope = scope
        self._path = f"/endpoints/{quote(name, safe='')}/invocations"

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        who = f"{self._scope.account}/20000101/{self._scope.region}/sagemaker/aws4_request"
        signed = f"AWS4-HMAC-SHA256 Credential={who}, SignedHeaders=host, Signature=0"
        kept = [one for one in scope["headers"] if one[0] in (b"content-type", b"accept")]
        passed = {
            **scope,
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "headers": [*kept, (b"authorization", signed.encode())],
        }
        await self._runtime(passed, receive, send)


def _variants(deployment: Deployment, live: Mapping[str, LiveVariant]) -> list[models.Variant]:
    return [
        _variant(spec, live.get(spec.name), spec in deployment.shadows)
        for spec in deployment.all_variants
    ]


def _variant(spec: VariantSpec, live: LiveVariant | None, shadow: bool) -> models.Variant:
    kind = "shadow" if shadow else "serverless" if spec.serverless else ""
    return models.Variant(
        name=spec.name,
        model=spec.model,
        instance_type=spec.instance_type,
        wanted=spec.count,
        in_service=live.in_service if live else 0,
        weight=spec.weight,
        kind="component" if spec.component_of else kind,
        status=(live.status or "") if live else "",
        message=live.message if live else "",
    )


def _curves(title: str, samples: list[Sample]) -> dict[str, list[float]]:
    if title == "requests a second":
        return {title: [sample.total / FLUSH_SECONDS for sample in samples]}
    if title == "latency":
        return {
            "latency, mean, ms": [sample.total / sample.number / 1000 for sample in samples],
            "latency, longest, ms": [sample.maximum / 1000 for sample in samples],
        }
    return {title: [sample.total for sample in samples]}
