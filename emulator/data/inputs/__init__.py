"""Input channels: how the data of a job's InputDataConfig reaches its instances.

One file an input mode; `MODES` names them all.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.data.inputs import fastfile, file, file_system, pipe
from emulator.data.inputs.base import (
    Channel,
    DataDownloadFailed,
    Progress,
    Sources,
    StagedChannel,
    Staging,
)
from emulator.data.inputs.rules import check_input, refuse_unsupported
from emulator.data.objectstore.objects import Cancelled

__all__ = [
    "MODES",
    "Cancelled",
    "Channel",
    "DataDownloadFailed",
    "Progress",
    "Sources",
    "StagedChannel",
    "Staging",
    "check_input",
    "refuse_unsupported",
    "stage",
]

MODES: Mapping[str, Channel] = {
    "File": file.stage,
    "Pipe": pipe.stage,
    "FastFile": fastfile.stage,
}
"""By TrainingInputMode."""


def stage(staging: Staging) -> StagedChannel:
    """Make a channel ready on every instance that receives it. Raises JobError or Cancelled."""
    refuse_unsupported(staging.channel)
    if staging.channel.s3 is None:
        # Such a file system is there as a whole, whatever the mode says (API reference).
        return file_system.stage(staging)
    return MODES[staging.channel.input_mode](staging)
