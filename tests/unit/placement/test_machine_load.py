from emulator.placement.machine_load import LoadMeter, MachineLoad

MEMINFO = "MemTotal:       16384 kB\nMemFree:  100 kB\nMemAvailable:   4096 kB\n"


def machine(path, line):
    (path / "stat").write_text(f"{line}\ncpu0 1 2 3\n")


def test_the_share_of_work_since_the_look_before(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    machine(tmp_path, "cpu 100 0 100 800 0 0 0 0 0 0")
    meter = LoadMeter(tmp_path)
    machine(tmp_path, "cpu 125 0 125 840 10 0 0 0 25 0")
    assert meter.read() == MachineLoad(50.0, 12, 16)
    assert meter.read().cpu_percent == 0


def test_a_machine_that_does_not_tell(tmp_path):
    assert LoadMeter(tmp_path).read() == MachineLoad(0.0, 0, 0)
