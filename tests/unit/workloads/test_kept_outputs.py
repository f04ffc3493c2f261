from __future__ import annotations

from pathlib import Path

from emulator.data.objectstore.objects import ObjectStore
from emulator.model.scope import Scope
from emulator.model.workload import WorkloadSpec
from emulator.resources.training import training_job
from emulator.workloads.plan.layout import instances_below
from emulator.workloads.transfers.inputs_outputs import S3Outputs

REQUEST = {
    "TrainingJobName": "job",
    "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
    "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
}


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def status(self, spec: WorkloadSpec, message: str) -> None:
        self.said.append(f"{spec.name}: {message}")

    def line(self, spec: WorkloadSpec, text: str) -> None:
        self.said.append(f"{spec.name}: {text}")

    def monotonic(self) -> float:
        return 0.0


def test_model_and_output_of_a_lost_job_are_moved_and_its_log_says_where(tmp_path: Path) -> None:
    spec = training_job(REQUEST, Scope("123456789012", "us-east-1"))
    lines = Lines()
    store = ObjectStore("http://127.0.0.1:9", "key", "secret", "us-east-1")
    outputs = S3Outputs(store, lines, tmp_path / "kept")
    instances = instances_below(tmp_path / "job", spec)
    dirs = instances["algo-1"]
    dirs.at("/opt/ml/model").mkdir(parents=True)
    dirs.at("/opt/ml/output/data").mkdir(parents=True)
    outputs.keep(spec, instances)
    assert lines.said == []
    (dirs.at("/opt/ml/model") / "weights").write_text("weights")
    outputs.keep(spec, instances)
    (place,) = (tmp_path / "kept/123456789012/us-east-1").iterdir()
    assert (place / "algo-1/model/weights").read_text() == "weights"
    assert lines.said == [f"job: Model and output are kept in {place}."]
