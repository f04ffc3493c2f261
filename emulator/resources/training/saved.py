"""Which directories of a training job's instances lie on volumes, and which go to S3 while it runs.

Pure. Below S3OutputPath the names are those that the SageMaker Python SDK builds for
`latest_job_tensorboard_artifacts_path` and its siblings.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from emulator.model.errors import ValidationError
from emulator.model.workload import S3Uri, SavedDirectory, Volume, WorkloadSpec
from emulator.resources.training.config_files import DATA, DEBUG_HOOK_PATH, TENSORBOARD_PATH

CHECKPOINTS = "checkpoints"
DEFAULT_CHECKPOINT_PATH = "/opt/ml/checkpoints"
PROFILER_PATH = "/opt/ml/output/profiler"
"""Where smdebug and the SDK's profiler write when nobody says otherwise."""
_ALWAYS = (
    Volume("/opt/ml/input", "ml/input"),
    Volume("/opt/ml/model", "ml/model"),
    Volume("/opt/ml/output", "ml/output"),
)
_NEEDED = re.compile(
    r"/(|bin|boot|etc|lib|lib64|run|sbin|tmp|var|opt(/conda|/ml)?|usr(/local)?(/s?bin|/lib)?)"
    r"|/(dev|opt/ml/input|proc|sys)(/.*)?"
)
"""What no container can do without; /tmp is every instance's own already."""


def saved_directories(request: Mapping[str, Any]) -> tuple[SavedDirectory, ...]:
    """All of a job's; none has the same path as another."""
    found = [*_checkpoints(request), *_reports(request)]
    return tuple({saved.path: saved for saved in reversed(found)}.values())[::-1]


def checkpoint_path(request: Mapping[str, Any]) -> str:
    """CheckpointConfig.LocalPath, or its default."""
    config = request.get("CheckpointConfig", {})
    return _plain(config.get("LocalPath", DEFAULT_CHECKPOINT_PATH))


def volumes(request: Mapping[str, Any]) -> tuple[Volume, ...]:
    """The paths under which every instance has directories that end with the job.

    Checkpoints within the model or the output have none of their own: what lies there goes
    both ways, and no model is lost to a request that names /opt/ml/model.
    """
    found = list(_ALWAYS)
    path = checkpoint_path(request)
    if not _lies_in(found, path):
        found.append(Volume(path, "ml/checkpoints"))
    of_checkpoints = tuple(found)
    found += [
        Volume(saved.path, f"ml/saved/{saved.path.strip('/').replace('/', '-')}")
        for saved in saved_directories(request)
        if not _lies_in(of_checkpoints, saved.path)
    ]
    return tuple(found)


def refuse_unusable(spec: WorkloadSpec) -> None:
    """Raise ValidationError for a LocalPath that would hide what the container needs (pure).

    What the service says of one is not known.
    """
    for saved in spec.saved:
        if _NEEDED.fullmatch(saved.path):
            raise ValidationError(
                f"LocalPath {saved.path} cannot be used for {saved.kind}: a directory in its "
                "place would hide what the container needs. Choose another one, such as "
                f"/opt/ml/{saved.kind}."
            )


def _lies_in(volumes: Iterable[Volume], path: str) -> bool:
    return any(PurePosixPath(path).is_relative_to(volume.path) for volume in volumes)


def _checkpoints(request: Mapping[str, Any]) -> list[SavedDirectory]:
    config = request.get("CheckpointConfig")
    if not config:
        return []
    return [
        SavedDirectory(
            CHECKPOINTS,
            checkpoint_path(request),
            S3Uri.parse(config["S3Uri"]),
            mirrored=True,
            manifest=f"{DATA}/{CHECKPOINTS}-manifest",
        )
    ]


def _reports(request: Mapping[str, Any]) -> list[SavedDirectory]:
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
        SavedDirectory(
            kind,
            _plain(path),
            S3Uri.parse(config["S3OutputPath"]).join(request["TrainingJobName"], f"{kind}-output"),
        )
        for kind, config, path in entries
        if config.get("S3OutputPath")
    ]


def _plain(path: str) -> str:
    """Without `..`, which would lead out of the instance's directories on this machine."""
    return posixpath.normpath("/" + path.strip("/"))
