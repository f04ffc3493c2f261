"""Unpacks the archives that jobs leave, on every Python that is supported."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack into a folder, which is made; nothing is written outside of it.

    Raises TarError for a member that leads out of the folder or is a device, and OSError.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    # Python before 3.10.12 and 3.11.4. One by one: an earlier member may be a link to elsewhere.
    root = folder.resolve()
    for member in archive:
        path = (root / member.name).resolve()
        places = [path]
        if member.issym():
            places.append((path.parent / member.linkname).resolve())
        elif member.islnk():
            places.append((root / member.linkname).resolve())
        elif not (member.isfile() or member.isdir()):
            raise tarfile.ExtractError(f"{member.name} is a device or a pipe")
        if not all(place.is_relative_to(root) for place in places):
            raise tarfile.ExtractError(f"{member.name} leads out of the archive")
        archive.extract(member, root)
