"""A plan in, bubblewrap's arguments out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from emulator.drivers.process.interpreter import Interpreter
from emulator.drivers.process.sandbox import (
    Entry,
    Features,
    View,
    bounding_set,
    installs_above,
    sandbox_arguments,
)
from emulator.model.plan import InstancePlan, Mount

PYTHON = Interpreter(
    executable="/home/u/env/bin/python",
    base_executable="/usr/bin/python3",
    version="3.11.2",
    prefix="/home/u/env",
    base_prefix="/usr",
    scripts="/home/u/env/bin",
    path=("/usr/lib/python3.11", "/home/u/env/lib/python3.11/site-packages"),
    sites=("/home/u/env/lib/python3.11/site-packages",),
    writable=True,
    own=True,
    modules=frozenset({"pip"}),
)
USER = Features(user_namespace=True, overlay="disk")
PLAN = InstancePlan(
    host="algo-2",
    image=None,
    entrypoint=None,
    arguments=("train",),
    environment={},
    mounts=(Mount(Path("/j/in"), "/opt/ml/input"),),
    scratch=Path("/j/s"),
)


class Tree:
    """A host with a few files: directory → names, and where links go."""

    def __init__(
        self, listing: Mapping[str, Sequence[str]], links: Mapping[str, str] | None = None
    ):
        self.listing = listing
        self.links = links or {}

    def entries(self, directory: str) -> Sequence[Entry]:
        parent = directory.rstrip("/")
        paths = [f"{parent}/{name}" for name in self.listing.get(directory, ())]
        return [Entry(path, self.links.get(path)) for path in paths]

    def exists(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        return name in self.listing.get(parent or "/", ())


HOST = Tree(
    {
        "/": ["bin", "dev", "etc", "home", "opt", "proc", "tmp", "usr"],
        "/etc": ["environment", "hosts", "passwd"],
        "/opt": ["ml", "tools"],
        "/home": ["u"],
    },
    {"/bin": "usr/bin"},
)


def words(plan: InstancePlan = PLAN, **changes: object) -> str:
    values: dict[str, object] = {
        "plan": plan,
        "interpreter": PYTHON,
        "features": USER,
        "tree": HOST,
        "devices": (),
        "environment": {},
        "network": True,
        **changes,
    }
    return " ".join(sandbox_arguments(**values))  # type: ignore[arg-type]


RUN = (
    "/run/NetworkManager/resolv.conf /run/booted-system /run/connman/resolv.conf "
    "/run/current-system /run/nvidia-fabricmanager /run/nvidia-persistenced "
    "/run/opengl-driver /run/resolvconf /run/systemd/resolve"
)


def shown(paths: str) -> str:
    return " ".join(f"--ro-bind-try {path} {path}" for path in paths.split())


def test_the_whole_of_a_plain_one() -> None:
    assert words(environment={"A": "1"}) == (
        "--die-with-parent --as-pid-1 --unshare-pid --unshare-ipc "
        "--unshare-uts --hostname algo-2 --unshare-user "
        "--symlink usr/bin /bin --ro-bind-try /etc /etc --ro-bind-try /home /home "
        "--dir /opt --ro-bind-try /opt/tools /opt/tools --ro-bind-try /usr /usr "
        "--proc /proc --dev /dev --perms 1777 --tmpfs /dev/shm "
        f"{shown('/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger')} "
        "--perms 0755 --tmpfs /run --perms 1777 --tmpfs /tmp "
        "--bind /j/s/var-tmp /var/tmp --bind /j/s/ml /opt/ml "
        "--ro-bind /j/s/hosts /etc/hosts --bind /j/s/home /instance/home "
        "--bind /j/s/environment /instance/environment --ro-bind /j/s/bin /instance/bin "
        f"{shown(RUN)} "
        "--bind /j/in /opt/ml/input --overlay-src /home/u/env "
        "--overlay /j/s/overlay/upper /j/s/overlay/work /home/u/env "
        "--chdir / --clearenv --setenv A 1"
    )


def test_a_model_can_add_to_lib() -> None:
    serving = replace(PLAN, arguments=("serve",))
    listing = {"/": ["lib", "usr"], "/lib": ["ld.so", "x86_64-linux-gnu"]}
    linked = words(serving, tree=Tree(listing, {"/lib": "usr/lib"}))
    assert (
        "--ro-bind-try /usr /usr --perms 0755 --dir /lib --symlink /usr/lib/ld.so /lib/ld.so "
        "--symlink /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu --proc"
    ) in linked
    assert "--ro-bind-try /lib /lib" in words(serving, tree=Tree(listing))
    assert "--symlink usr/lib /lib" in words(tree=Tree(listing, {"/lib": "usr/lib"}))


def test_what_is_hidden_is_covered_before_the_mounts_and_closed_after_them() -> None:
    view = View(("/home/u/state",), ("/etc/shadow",), ("/home/u/state/ca.pem",))
    python = replace(PYTHON, prefix="/home/u/state/env")
    before, _, after = words(view=view, interpreter=python).partition(" --bind /j/in")
    covered = "--perms 0755 --tmpfs /home/u/state --ro-bind /dev/null /etc/shadow"
    assert before.index(covered) < before.index("--ro-bind-try /home/u/state/ca.pem")
    assert before.index("--ro-bind-try /home /home") < before.index(covered)
    assert after.index("--overlay /j/s/overlay/upper") < after.index("--remount-ro /home/u/state")


def test_what_other_mounts_cover_needs_no_cover() -> None:
    view = View(("/tmp/state", "/home/u/state", "/opt/ml"))
    plan = replace(PLAN, mounts=(Mount(Path("/j/c"), "/home/u"),))
    assert "remount-ro" not in words(plan, view=view)
    assert "--remount-ro /proc/acpi" in words(plan, view=View(("/proc/acpi",)))


def test_what_lies_in_the_environment_is_covered_above_its_overlay() -> None:
    text = words(view=View(("/home/u/env/state",)))
    assert text.index("--overlay-src /home/u/env") < text.index("--tmpfs /home/u/env/state")


def test_an_interpreter_below_what_is_hidden_is_shown_again() -> None:
    python = replace(PYTHON, prefix="/home/u/state/env", base_prefix="/home/u/state/python")
    plain = Features(user_namespace=True, overlay="")
    text = words(view=View(("/home/u/state",)), interpreter=python, features=plain)
    for path in ("/home/u/state/env", "/home/u/state/python"):
        assert f" {path} {path}" in text.partition("--tmpfs /home/u/state")[2]


def test_root_has_no_more_rights_in_reserve_than_in_effect() -> None:
    (program, kept, _) = bounding_set(Features(False, ""), "/usr/bin/setpriv")
    assert program == "/usr/bin/setpriv"
    assert kept.startswith("--bounding-set=-all,+chown,")
    assert "sys_admin" not in kept
    assert bounding_set(USER, "/usr/bin/setpriv") == ()
    assert bounding_set(Features(False, ""), None) == ()


def test_root_needs_no_user_namespace_and_keeps_a_containers_rights() -> None:
    text = words(features=Features(user_namespace=False, overlay="disk"))
    assert "--unshare-user" not in text
    assert "--cap-drop ALL --cap-add CAP_CHOWN" in text
    assert "CAP_SYS_ADMIN" not in text


def test_isolation_is_a_network_of_its_own() -> None:
    assert "--unshare-net" not in words()
    assert "--unshare-net" in words(network=False)


def test_a_host_without_etc_hosts_shows_etc_entry_by_entry() -> None:
    text = words(tree=Tree({"/": ["etc"], "/etc": ["passwd"]}))
    assert "--dir /etc --ro-bind-try /etc/passwd /etc/passwd" in text
    assert "--ro-bind-try /etc /etc" not in text


def test_deeper_mounts_come_after_those_above_them() -> None:
    mounts = (
        Mount(Path("/j/ck"), "/opt/ml/output/checkpoints"),
        Mount(Path("/j/out"), "/opt/ml/output", read_only=True),
    )
    text = words(replace(PLAN, mounts=mounts))
    assert "--ro-bind /j/out /opt/ml/output --bind /j/ck /opt/ml/output/checkpoints" in text


def test_a_mount_where_the_host_has_nothing_gets_room() -> None:
    text = words(replace(PLAN, mounts=(Mount(Path("/j/c"), "/home/u/state"),)))
    assert "--dir /home --dir /home/u" in text or "--ro-bind-try /home/u /home/u" not in text
    assert "--bind /j/c /home/u/state" in text


def test_an_interpreter_below_tmp_is_shown_again() -> None:
    python = replace(PYTHON, prefix="/tmp/e", base_prefix="/tmp/base", path=("/src", "/tmp/e/lib"))
    text = words(interpreter=python, features=Features(user_namespace=True, overlay=""))
    assert "--ro-bind-try /tmp/base /tmp/base" in text
    assert "--ro-bind /tmp/e /tmp/e" in text
    assert "/src" not in text


def test_an_overlay_in_memory_where_the_disk_allows_none() -> None:
    text = words(features=Features(user_namespace=True, overlay="memory"))
    assert "--overlay-src /home/u/env --tmp-overlay /home/u/env" in text


def test_an_overlay_only_over_what_this_user_may_change() -> None:
    assert installs_above(PYTHON, USER)
    assert not installs_above(replace(PYTHON, own=False), USER)
    assert installs_above(replace(PYTHON, own=False), replace(USER, user_namespace=False))
    assert not installs_above(replace(PYTHON, writable=False), USER)
    assert not installs_above(PYTHON, replace(USER, overlay=""))


def test_devices_are_bound_one_by_one() -> None:
    assert "--dev-bind-try /dev/nvidia0 /dev/nvidia0" in words(devices=("/dev/nvidia0",))


def test_a_layer_lies_above_a_directory_that_stays_as_it_is() -> None:
    mount = Mount(Path("/cache/t"), "/opt/ml/input/data/train", layer=Path("/jobs/fit/l"))
    assert (
        "--overlay-src /cache/t --overlay /jobs/fit/l/upper /jobs/fit/l/work "
        "/opt/ml/input/data/train"
    ) in words(replace(PLAN, mounts=(*PLAN.mounts, mount)))
