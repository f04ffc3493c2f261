"""One /dev/shm for all sandboxes of a job: NCCL tells by it who is a neighbour."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from emulator.drivers.scratch_files import remove_tree
from emulator.model.plan import JobPlan, Mount

_log = logging.getLogger(__name__)
DEV_SHM = Path("/dev/shm")  # noqa: S108 - a tmpfs, which is what is wanted


class SharedMemory:
    """Directories of the machine's own tmpfs, as directories of a disk could not stand for it."""

    def __init__(self, state_dir: Path, root: Path = DEV_SHM):
        self._root = root
        token = hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()[:12]
        self._prefix = f"sagemaker-emulator-{token}-"

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what earlier emulators of this state directory left, but for these paths."""
        for left in self._root.glob(f"{self._prefix}*"):
            if str(left) in keep:
                continue
            try:
                remove_tree(left)
            except OSError as error:
                _log.warning("%s stays for now: %s", left, error)

    def share(self, plan: JobPlan) -> tuple[JobPlan, tuple[str, ...]]:
        """The plan with the shared memory that it asks for, and the directories made for it.

        Raises OSError where the machine has none.
        """
        if not plan.sharing.dev_shm:
            return plan, ()
        directory = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._root))
        mount = Mount(directory, str(DEV_SHM))
        instances = tuple(replace(one, mounts=(*one.mounts, mount)) for one in plan.instances)
        return replace(plan, instances=instances), (str(directory),)
