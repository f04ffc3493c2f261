"""Jobs and GPUs for the tests of who gets what."""

from emulator.model.scope import Scope
from emulator.placement.device import Gpu, GpuProcess
from emulator.placement.gpus import Inventory
from emulator.resources.training import training_job

SCOPE = Scope("123456789012", "us-east-1")
INTRUDER = GpuProcess(4711, "python", 2048)


def spec(name, type_="ml.g5.xlarge", count=1, *, runtime=3600, tags=(), groups=None):
    resources = {"VolumeSizeInGB": 1}
    if groups:
        resources["InstanceGroups"] = [
            {"InstanceGroupName": f"g{n}", "InstanceType": one, "InstanceCount": many}
            for n, (one, many) in enumerate(groups)
        ]
    else:
        resources |= {"InstanceType": type_, "InstanceCount": count}
    request = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "OutputDataConfig": {"S3OutputPath": "s3://b/o"},
        "ResourceConfig": resources,
        "StoppingCondition": {"MaxRuntimeInSeconds": runtime},
        "Tags": [{"Key": key, "Value": value} for key, value in tags],
    }
    return training_job(request, SCOPE)


def gpus(count, busy=()):
    return tuple(
        Gpu(
            f"GPU-{index}",
            "NVIDIA L40S",
            46068,
            index,
            processes=(INTRUDER,) if index in busy else (),
        )
        for index in range(count)
    )


def inventory(count, busy=(), **more):
    return Inventory(gpus(count, busy), source="nvml", **more)
