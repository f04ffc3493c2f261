"""artifacts: fetch what a job has left in S3."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from emulator.cli.jobs import JobName
from emulator.cli.kinds import PROCESSING, kind_of
from emulator.cli.messages import fail, out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import Remote, connect, plain_errors
from emulator.data.outputs.unpack import unpack as unpack_archive
from emulator.model.workload import S3Uri


def artifacts(
    job: JobName,
    directory: Annotated[
        Path | None, typer.Argument(help="Where to; default: a directory named after the job.")
    ] = None,
    packed: Annotated[
        bool, typer.Option("--packed", help="Leave model.tar.gz and output.tar.gz as they are.")
    ] = False,
    endpoint_url: EndpointFlag = None,
    port: AskPortFlag = None,
    state_dir: StateFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Fetch a job's outputs from S3, and unpack model.tar.gz and output.tar.gz."""
    remote = connect(load_settings(state_dir=state_dir, config=config), endpoint_url, port)
    with plain_errors(remote, job):
        kind = remote.kind_of(job)
        described = remote.describe(job, kind)
    client, found = s3_client(remote), []
    try:
        for folder, source in outputs_of(described).items():
            target = (directory or Path(job)) / folder
            found += fetch(client, source, target, unpack=not packed)
    except (MinioException, HTTPError, OSError, tarfile.TarError) as error:
        fail(f"the outputs of {job} could not be fetched: {error}.")
    if not found:
        fail(f"{job} has no outputs in S3.", f"It is {kind.status(described)}.")
    for path in found:
        out.print(str(path), markup=False)


def outputs_of(described: dict[str, Any]) -> dict[str, S3Uri]:
    """Where a job's outputs are in S3, by the directory that they are fetched into.

    Those of a training job are at `<S3OutputPath>/<job>/output`; each output of a processing job
    has its own place.
    """
    if kind_of(described) is PROCESSING:
        outputs = described.get("ProcessingOutputConfig", {}).get("Outputs", ())
        return {
            output["OutputName"]: S3Uri.parse(output["S3Output"]["S3Uri"])
            for output in outputs
            if "S3Output" in output
        }
    root = S3Uri.parse(described["OutputDataConfig"]["S3OutputPath"])
    return {"": root.join(described["TrainingJobName"], "output")}


def fetch(client: Minio, source: S3Uri, target: Path, *, unpack: bool) -> list[Path]:
    """Get every object below `source`; archives become directories of their names.

    Returns what there is in `target` then. Raises MinioException, HTTPError, OSError, TarError.
    """
    found = []
    prefix = f"{source.key.rstrip('/')}/".lstrip("/")
    for item in client.list_objects(source.bucket, prefix, recursive=True):
        name = str(item.object_name).removeprefix(prefix)
        path = target / name
        if not path.resolve().is_relative_to(target.resolve()):
            raise OSError(f"{name} is no name of a file below {target}")
        client.fget_object(source.bucket, str(item.object_name), str(path))
        if unpack and name.endswith(".tar.gz"):
            folder = target / name.removesuffix(".tar.gz")
            with tarfile.open(path) as archive:
                unpack_archive(archive, folder)
            path.unlink()
            path = folder
        found.append(path)
    return found


def s3_client(remote: Remote) -> Minio:
    """A client of the emulator's S3."""
    parts = urlsplit(remote.url)
    region, access_key, secret_key = remote.credentials
    return Minio(
        parts.netloc,
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        secure=parts.scheme == "https",
    )
