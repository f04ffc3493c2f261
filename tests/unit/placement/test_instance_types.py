import csv
from importlib import resources

import pytest

from emulator.model.errors import SetupError
from emulator.placement.instance_types import InstanceType, load_catalog

CATALOG = load_catalog()


def test_every_row_of_the_table_is_a_type():
    table = resources.files("emulator.placement").joinpath("instance_types.csv").read_text("utf-8")
    names = [row["instance_type"] for row in csv.DictReader(table.splitlines())]
    assert len(names) == 225
    assert set(names) == set(CATALOG.types)


@pytest.mark.parametrize(
    ("name", "vcpu", "memory_mib", "gpus", "model", "gpu_mib"),
    [
        ("ml.m5.xlarge", 4, 16 * 1024, 0, "", 0),
        ("ml.c4.xlarge", 4, 7680, 0, "", 0),
        ("ml.p4d.24xlarge", 96, 1152 * 1024, 8, "NVIDIA A100", 40960),
        ("ml.g4dn.12xlarge", 48, 192 * 1024, 4, "NVIDIA T4", 16384),
        ("ml.p6e-gb200.36xlarge", 144, 960 * 1024, 4, "NVIDIA GB200", 0),
    ],
)
def test_types_of_the_service(name, vcpu, memory_mib, gpus, model, gpu_mib):
    found = CATALOG.find(name)
    assert found is not None
    assert (found.vcpu, found.memory_mib) == (vcpu, memory_mib)
    assert (found.gpu_count, found.gpu_model, found.gpu_memory_mib) == (gpus, model, gpu_mib)


def test_details_that_few_types_have():
    trainium, grace = CATALOG.find("ml.trn1.32xlarge"), CATALOG.find("ml.p6e-gb200.36xlarge")
    assert trainium is not None
    assert grace is not None
    assert (trainium.neuron_devices, trainium.gpu_count, trainium.efa_interfaces) == (16, 0, 8)
    assert grace.arch == "arm64"


@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("ml.local.0gpu", 0),
        ("ml.local.1gpu", 1),
        ("ml.local.8gpu", 8),
        ("ml.glocal.xlarge", 1),
        ("ml.glocal.2xlarge", 2),
        ("ml.glocal.4gpu", 4),
    ],
)
def test_local_types_have_as_many_gpus_as_their_name_says(name, gpus):
    found = CATALOG.find(name)
    assert found is not None
    assert found.gpu_count == gpus
    assert found.vcpu >= 4


@pytest.mark.parametrize(
    "name", ["", "ml.t2.medium", "ml.local.gpu", "ml.local.2xlarge", "ml.local.-1gpu", "local_gpu"]
)
def test_nobody_has_other_types(name):
    assert CATALOG.find(name) is None


def test_own_types_are_added_and_win():
    own = {
        "ml.box.big": {"vcpu": 32, "memory_gib": 128, "gpu_count": 2, "gpu_model": "RTX 4090"},
        "ml.m5.xlarge": {"vcpu": 1, "memory_gib": 0.5},
    }
    catalog = load_catalog(own)
    assert catalog.find("ml.box.big") == InstanceType(
        "ml.box.big", 32, 128 * 1024, 2, gpu_model="RTX 4090"
    )
    assert catalog.find("ml.m5.xlarge") == InstanceType("ml.m5.xlarge", 1, 512)
    assert CATALOG.find("ml.box.big") is None


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ({"box": {"vcpu": 1, "memory_gib": 1}}, "name that no client sends"),
        ({"ml.box.big": {"memory_gib": 1}}, "lacks vcpu"),
        ({"ml.box.big": {"vcpu": 1, "memory_gib": 1, "gpus": 2}}, "unknown members: gpus"),
        ({"ml.box.big": {"vcpu": "many", "memory_gib": 1}}, "cannot be read"),
        ({"ml.box.big": {"vcpu": 0, "memory_gib": 1}}, "at least one vcpu"),
    ],
)
def test_own_types_that_cannot_be_read(own, complaint):
    with pytest.raises(SetupError, match=complaint):
        load_catalog(own)
