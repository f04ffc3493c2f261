"""Which GPUs the emulator was left: CUDA_VISIBLE_DEVICES, read as CUDA reads it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.placement.device import Gpu

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def visible(gpus: Sequence[Gpu], names: str | None) -> tuple[Gpu, ...]:
    """The devices that the variable names; all where it is not set (None).

    Numbers are those of nvidia-smi, UUIDs may be cut short, and a GPU brings its slices. What
    follows a name that nothing has does not count, so that an empty value leaves nothing
    (CUDA programming guide, environment variables).
    """
    if names is None:
        return tuple(gpus)
    chosen: set[str] = set()
    for name in names.split(","):
        uuid = _find(gpus, name.strip())
        if uuid is None:
            break
        chosen.add(uuid)
    return tuple(gpu for gpu in gpus if gpu.uuid in chosen or gpu.parent in chosen)


def _find(gpus: Sequence[Gpu], name: str) -> str | None:
    if name.isdecimal():
        whole = [gpu.uuid for gpu in gpus if not gpu.is_slice]
        return whole[int(name)] if int(name) < len(whole) else None
    return next((gpu.uuid for gpu in gpus if name and gpu.uuid.startswith(name)), None)
