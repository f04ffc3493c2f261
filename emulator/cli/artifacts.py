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
from emulator.cli.messages import fail, out
from emulator.cli.options import AskPortFlag, ConfigFlag, EndpointFlag, StateFlag, load_settings
from emulator.cli.remote import Remote, connect, plain_errors
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
        described = remote.describe(job)
    target = directory or Path(job)
    try:
        found = fetch(_client(remote), output_of(described), target, unpack=not packed)
    except (MinioException, HTTPError, OSError, tarfile.TarError) as error:
        fail(f"the outputs of {job} could not be fetched: {error}.")
    if not found:
        fail(f"{job} has no outputs in S3.", f"It is {described['TrainingJobStatus']}.")
    for path in found:
        out.print(str(path), markup=False)


def output_of(described: dict[str, Any]) -> S3Uri:
    """Where a job's outputs are: `<S3OutputPath>/<job>/output`."""
    root = S3Uri.parse(described["OutputDataConfig"]["S3OutputPath"])
    return root.join(described["TrainingJobName"], "output")


def fetch(client: Minio, source: S3Uri, target: Path, *, unpack: bool) -> list[Path]:
    """Get every object below `source`; archives become directories of their names.

    Returns what there is in `target` then. Raises MinioException, HTTPError, OSError, TarError.
    """
    found = []
    prefix = f"{source.key}/"
    for item in client.list_objects(source.bucket, prefix, recursive=True):
        name = str(item.object_name).removeprefix(prefix)
        path = target / name
        if not path.resolve().is_relative_to(target.resolve()):
            raise OSError(f"{name} is no name of a file below {target}")
        client.fget_object(source.bucket, str(item.object_name), str(path))
        if unpack and name.endswith(".tar.gz"):
            folder = target / name.removesuffix(".tar.gz")
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            path.unlink()
            path = folder
        found.append(path)
    return found


def _client(remote: Remote) -> Minio:
    parts = urlsplit(remote.url)
    region, access_key, secret_key = remote.credentials
    return Minio(
        parts.netloc,
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        secure=parts.scheme == "https",
    )
