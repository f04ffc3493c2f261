"""Which directories of an instance are copied to S3 while it runs, and where to. Pure.

Below S3OutputPath the names are those that the SageMaker Python SDK builds for
`latest_job_tensorboard_artifacts_path` and its siblings.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from emulator.model.errors import ValidationError
from emulator.model.job import DEFAULT_CHECKPOINT_PATH, JobSpec, S3Uri
from emulator.workloads.plan.config_files import DEBUG_HOOK_PATH, TENSORBOARD_PATH

CHECKPOINTS = "checkpoints"
_ALWAYS = ("/opt/ml/input", "/opt/ml/model", "/opt/ml/output")
_NEEDED = re.compile(
    r"/(|bin|boot|etc|lib|lib64|run|sbin|tmp|var|opt(/conda|/ml)?|usr(/local)?(/s?bin|/lib)?)"
    r"|/(dev|opt/ml/input|proc|sys)(/.*)?"
)
"""What no container can do without; /tmp is every instance's own already."""
PROFILER_PATH = "/opt/ml/output/profiler"
"""Where smdebug and the SDK's profiler write when nobody says otherwise."""


@dataclass(frozen=True)
class Saved:
    """A directory of the instances and the prefix it goes to."""

    kind: str
    path: str
    """On the instance, without a slash at the end."""
    target: S3Uri


def saved_directories(spec: JobSpec) -> tuple[Saved, ...]:
    """All of a job's; none has the same path as another."""
    found = [*_checkpoints(spec), *_reports(spec)]
    return tuple({saved.path: saved for saved in reversed(found)}.values())[::-1]


def checkpoint_path(spec: JobSpec) -> str:
    """CheckpointConfig.LocalPath, or its default."""
    path = spec.checkpoints.local_path if spec.checkpoints else DEFAULT_CHECKPOINT_PATH
    return _plain(path)


def mounted(spec: JobSpec) -> tuple[str, ...]:
    """The paths under which every instance has directories that end with the job.

    Checkpoints within the model or the output have none of their own: what lies there goes
    both ways, and no model is lost to a request that names /opt/ml/model.
    """
    path = checkpoint_path(spec)
    return _ALWAYS if _above(_ALWAYS, path) else (*_ALWAYS, path)


def refuse_unusable(spec: JobSpec) -> None:
    """Raise ValidationError for a LocalPath that would hide what the container needs (pure).

    What the service says of one is not known.
    """
    for saved in saved_directories(spec):
        if _NEEDED.fullmatch(saved.path):
            raise ValidationError(
                f"LocalPath {saved.path} cannot be used for {saved.kind}: a directory in its "
                "place would hide what the container needs. Choose another one, such as "
                f"/opt/ml/{saved.kind}."
            )


def unmounted(spec: JobSpec) -> tuple[str, ...]:
    """Paths of saved directories that lie in none of those, so that they need a mount."""
    return tuple(
        saved.path for saved in saved_directories(spec) if not _above(mounted(spec), saved.path)
    )


def _above(paths: tuple[str, ...], path: str) -> bool:
    return any(PurePosixPath(path).is_relative_to(each) for each in paths)


def _checkpoints(spec: JobSpec) -> list[Saved]:
    if spec.checkpoints is None:
        return []
    return [Saved(CHECKPOINTS, checkpoint_path(spec), S3Uri.parse(spec.checkpoints.s3_uri))]


def _reports(spec: JobSpec) -> list[Saved]:
    request = spec.request
    board = request.get("TensorBoardOutputConfig", {})
    hook = request.get("DebugHookConfig", {})
    profiler: Mapping[str, Any] = request.get("ProfilerConfig", {})
    parameters = profiler.get("ProfilingParameters", {})
    entries = (
        ("tensorboard", board, board.get("LocalPath", TENSORBOARD_PATH)),
        ("debug", hook, hook.get("LocalPath", DEBUG_HOOK_PATH)),
        ("profiler", profiler, parameters.get("LocalPath", PROFILER_PATH)),
    )
    return [
        Saved(
            kind,
            _plain(path),
            S3Uri.parse(config["S3OutputPath"]).join(spec.name, f"{kind}-output"),
        )
        for kind, config, path in entries
        if config.get("S3OutputPath")
    ]


def _plain(path: str) -> str:
    """Without `..`, which would lead out of the instance's directories on this machine."""
    return posixpath.normpath("/" + path.strip("/"))
