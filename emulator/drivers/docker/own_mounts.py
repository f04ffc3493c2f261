"""Paths of an emulator in a container, and what the engine calls them.

A bind mount's source is a path of the engine's machine. What compose mounts into the emulator's
container has another path there than inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OwnMounts:
    """Directories that this process sees and the engine knows by another path."""

    pairs: tuple[tuple[Path, Path], ...] = ()
    """Here, and on the engine's machine; a directory below another one comes first."""

    @classmethod
    def of(cls, mounts: Iterable[Mapping[str, Any]]) -> OwnMounts:
        """From `Mounts` of a ContainerInspect answer."""
        found = [
            (Path(mount["Destination"]), Path(mount["Source"]))
            for mount in mounts
            if mount.get("Source")
        ]
        return cls(tuple(sorted(found, key=lambda pair: len(pair[0].parts), reverse=True)))

    def outside(self, path: Path) -> Path:
        """The path on the engine's machine; the same path where nothing is mounted."""
        for here, there in self.pairs:
            if path.is_relative_to(here):
                return there / path.relative_to(here)
        return path

    def inside(self, path: Path) -> Path:
        """The path here of one on the engine's machine."""
        for here, there in sorted(self.pairs, key=lambda pair: -len(pair[1].parts)):
            if path.is_relative_to(there):
                return here / path.relative_to(there)
        return path
