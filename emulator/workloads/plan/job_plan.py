"""A job and what it was given → what a runtime has to start. Pure: it touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from emulator.model.plan import InstancePlan, JobPlan, Mount, RuntimeTraits, Sharing
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.workloads.plan.layout import InstanceDirs


@dataclass(frozen=True)
class Credentials:
    """What the job's scripts sign their AWS requests with."""

    access_key: str
    secret_key: str
    session_token: str = ""
    account: str = ""
    """Whose they are; "" if that is not told apart."""

    def of(self, account: str) -> Credentials:
        """Those of a job in that account: an access key id of twelve digits stands for one."""
        if account == self.account or not self.account:
            return self
        return replace(self, access_key=account, session_token="", account=account)

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r})"


def plan_job(
    spec: WorkloadSpec,
    dirs: Mapping[str, InstanceDirs],
    traits: RuntimeTraits,
    gpus: Mapping[str, tuple[str, ...]],
    credentials: Credentials,
    labels: Mapping[str, str] | None = None,
    conveniences: Mapping[str, Mapping[str, str]] | None = None,
    sharing: Sharing | None = None,
    channels: Mapping[str, tuple[Mount, ...]] | None = None,
) -> JobPlan:
    """All instances of the job; `dirs` and `gpus` (UUIDs) by host name.

    `channels` are the mounts through which each host sees its input data.

    `conveniences` are further variables of each host that the request may replace.
    """
    sharing = sharing or Sharing()
    more = conveniences or {}
    tmp = dirs[spec.hosts[0].name].tmp if sharing.tmp else None
    return JobPlan(
        job=spec.name,
        arn=spec.arn,
        instances=tuple(
            InstancePlan(
                host=host.name,
                image=spec.image,
                entrypoint=spec.entrypoint,
                arguments=spec.arguments,
                # No SM_* among them: the toolkit makes those itself.
                environment=environment_of(
                    spec.environment,
                    spec.platform,
                    spec.scope,
                    traits,
                    bool(gpus.get(host.name)),
                    credentials.of(spec.scope.account),
                    more.get(host.name),
                ),
                mounts=(
                    *dirs[host.name].mounts,
                    Mount(tmp or dirs[host.name].tmp, "/tmp"),  # noqa: S108 - of the instance
                    *(channels or {}).get(host.name, ()),
                ),
                scratch=dirs[host.name].scratch,
                gpus=gpus.get(host.name, ()),
                instance_type=host.instance_type,
            )
            for host in spec.hosts
        ),
        network_isolation=spec.network_isolation,
        labels=labels or {},
        sharing=sharing,
    )


def environment_of(
    requested: Mapping[str, str],
    platform: Mapping[str, str],
    scope: Scope,
    traits: RuntimeTraits,
    has_gpus: bool,
    credentials: Credentials,
    more: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """The request's own variables win over conveniences and lose to the platform's names.

    `more` are further conveniences.
    """
    conveniences = {
        "AWS_DEFAULT_REGION": scope.region,
        # Never half of one pair and half of another.
        **({} if "AWS_ACCESS_KEY_ID" in requested else _credentials(credentials)),
        "AWS_ENDPOINT_URL": traits.emulator_url,
        # The toolkit's own name for it; AWS_ENDPOINT_URL needs boto3 1.28 in the image.
        "S3_ENDPOINT_URL": traits.emulator_url,
        **(more or {}),
    }
    owned = {
        **platform,
        "AWS_REGION": scope.region,
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        **({} if has_gpus else {"NVIDIA_VISIBLE_DEVICES": "void"}),
    }
    return {**conveniences, **requested, **owned}


def _credentials(credentials: Credentials) -> dict[str, str]:
    token = credentials.session_token
    return {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        **({"AWS_SESSION_TOKEN": token} if token else {}),
    }
