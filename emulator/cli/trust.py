"""Whom a shell trusts: all that it trusts already, and this state directory's authority."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

AUTHORITY = "ca.pem"
"""The authority's certificate, in the client folder."""


def write_bundle(folder: Path, trusted: str | None, name: str = "ca-bundle.pem") -> Path:
    """A file that trusts what the file `trusted` does, and the authority in `folder`.

    Without such a file it trusts what clients trust where nothing is said.
    """
    bundle = folder / name
    if trusted is None or not Path(trusted).is_file() or Path(trusted) == bundle:
        trusted = str(_default_bundle())
    place(folder, Path(trusted).read_bytes() + b"\n" + _certificate(folder), bundle, replace=True)
    # No secret, and a container that mounts it may have another user.
    bundle.chmod(0o644)
    return bundle


def _certificate(folder: Path) -> bytes:
    """The authority's certificate; `up` made it, or it is made now."""
    certificate = folder / AUTHORITY
    if not certificate.exists():
        # Makes keys with a library that takes a while to load.
        from emulator.cli.certificates import authority  # noqa: PLC0415

        authority(folder)
    return certificate.read_bytes()


def _default_bundle() -> Path:
    """What botocore trusts where nothing is said: certifi's list, or its own copy of one."""
    for package, name in (("certifi", "cacert.pem"), ("botocore", "cacert.pem")):
        spec = find_spec(package)
        for place_of in (spec.submodule_search_locations or ()) if spec else ():
            if (file := Path(place_of) / name).is_file():
                return file
    raise FileNotFoundError("neither certifi nor botocore has a list of authorities")


def place(folder: Path, content: bytes, target: Path, *, replace: bool = False) -> None:
    """Write a file all at once, readable by its owner alone; the first of two writers wins."""
    handle, name = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    if replace:
        Path(name).replace(target)
        return
    try:
        target.hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
