"""A certificate authority of this state directory alone, for the host names of STS.

The key never leaves the state directory, and only shells that ran `sagemaker-emulator env`
trust the authority (through AWS_CA_BUNDLE): nothing of the system's own trust changes.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import botocore.session
import trustme

from emulator.cli.trust import AUTHORITY, place


def authority(folder: Path) -> trustme.CA:
    """The authority kept in `folder`, made on first use."""
    certificate, key = folder / AUTHORITY, folder / "ca.key"
    if not key.exists():
        fresh = trustme.CA(organization_name="sagemaker-emulator")
        folder.mkdir(parents=True, exist_ok=True)
        place(folder, fresh.private_key_pem.bytes() + fresh.cert_pem.bytes(), key)
    # One file holds both, so that two commands that start at once cannot mix two pairs.
    both = key.read_bytes()
    certificate_at = both.index(b"-----BEGIN CERTIFICATE-----")
    if not certificate.exists():
        place(folder, both[certificate_at:], certificate)
    return trustme.CA.from_pem(both[certificate_at:], both[:certificate_at])


def server_context(ca: trustme.CA) -> ssl.SSLContext:
    """TLS for the STS and telemetry hosts of every region that botocore knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("sts.amazonaws.com", *_hosts()).configure_cert(context)
    return context


def _hosts() -> list[str]:
    session = botocore.session.get_session()
    suffixes = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
    regions = {
        region: suffix
        for partition, suffix in suffixes.items()
        for region in session.get_available_regions("sts", partition)
        if region != "aws-global"
    }
    return [
        *(f"sts.{region}.{suffix}" for region, suffix in regions.items()),
        # The SDKs name this host without a partition's own suffix.
        *(f"sm-pysdk-t-{region}.s3.{region}.amazonaws.com" for region in regions),
    ]
