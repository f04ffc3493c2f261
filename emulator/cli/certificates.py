"""A certificate authority of this state directory alone, for the host names of STS.

The key never leaves the state directory, and only shells that ran `sagemaker-emulator env`
trust the authority (through AWS_CA_BUNDLE): nothing of the system's own trust changes.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path

import botocore.session
import trustme
from botocore.httpsession import get_cert_path


def authority(folder: Path) -> trustme.CA:
    """The authority kept in `folder`, made on first use."""
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not key.exists():
        fresh = trustme.CA(organization_name="sagemaker-emulator")
        folder.mkdir(parents=True, exist_ok=True)
        _place(folder, fresh.private_key_pem.bytes() + fresh.cert_pem.bytes(), key)
    # One file holds both, so that two commands that start at once cannot mix two pairs.
    both = key.read_bytes()
    certificate_at = both.index(b"-----BEGIN CERTIFICATE-----")
    if not certificate.exists():
        _place(folder, both[certificate_at:], certificate)
    return trustme.CA.from_pem(both[certificate_at:], both[:certificate_at])


def server_context(ca: trustme.CA) -> ssl.SSLContext:
    """TLS for the STS hosts of every region that botocore knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("sts.amazonaws.com", *_sts_hosts()).configure_cert(context)
    return context


def write_bundle(folder: Path, ca: trustme.CA, ambient: Mapping[str, str]) -> Path:
    """A bundle that trusts all that `ambient` trusts already, and the authority."""
    bundle = folder / "ca-bundle.pem"
    trusted = ambient.get("AWS_CA_BUNDLE") or ambient.get("REQUESTS_CA_BUNDLE")
    if trusted is None or not Path(trusted).is_file() or Path(trusted) == bundle:
        trusted = get_cert_path(True)
    _place(folder, Path(trusted).read_bytes() + b"\n" + ca.cert_pem.bytes(), bundle, replace=True)
    return bundle


def _sts_hosts() -> list[str]:
    session = botocore.session.get_session()
    suffixes = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
    return [
        f"sts.{region}.{suffix}"
        for partition, suffix in suffixes.items()
        for region in session.get_available_regions("sts", partition)
        if region != "aws-global"
    ]


def _place(folder: Path, content: bytes, target: Path, *, replace: bool = False) -> None:
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
