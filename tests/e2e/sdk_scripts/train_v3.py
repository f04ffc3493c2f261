"""An unchanged SDK v3 script: nothing in it knows of the emulator."""

import logging
import sys

from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode
from sagemaker.train.distributed import Torchrun

# The SDK logs what the job says; showing it is the application's choice.
logging.basicConfig(level=logging.INFO, format="%(message)s")
source, data = sys.argv[1:]
trainer = ModelTrainer(
    training_image="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.2.0-cpu-py310",
    source_code=SourceCode(
        source_dir=f"{source}/source", entry_script="train.py", requirements="requirements.txt"
    ),
    compute=Compute(instance_type="ml.c5.xlarge", instance_count=2),
    distributed=Torchrun(),
    hyperparameters={"epochs": 2, "lr": 0.05},
    base_job_name="sdk-v3",
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source=data)])
job = trainer._latest_training_job
print("JOB", job.training_job_name)
print("STATUS", job.refresh().training_job_status)
print("MODEL", job.model_artifacts.s3_model_artifacts)
