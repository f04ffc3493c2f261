"""An unchanged SDK v2 script: nothing in it knows of the emulator."""

import sys

import sagemaker
from sagemaker.inputs import TrainingInput
from sagemaker.pytorch import PyTorch

source, bucket = sys.argv[1:]
session = sagemaker.Session()
train = session.upload_data(f"{source}/data", bucket=bucket, key_prefix="sdk-v2/train")
estimator = PyTorch(
    entry_point="train.py",
    source_dir=f"{source}/source",
    role="SageMakerRole",
    framework_version="2.2.0",
    py_version="py310",
    instance_count=2,
    instance_type="ml.g5.2xlarge",
    distribution={"torch_distributed": {"enabled": True}},
    hyperparameters={"epochs": 2, "lr": 0.05},
)
estimator.fit({"train": TrainingInput(train)})
print("JOB", estimator.latest_training_job.name)
print("MODEL", estimator.model_data)
attached = PyTorch.attach(estimator.latest_training_job.name)
print("ATTACHED", attached.hyperparameters()["epochs"])
