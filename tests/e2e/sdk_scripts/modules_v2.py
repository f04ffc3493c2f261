"""An unchanged script of SDK v2's ModelTrainer, which sends telemetry whatever the settings say."""

import sys

from sagemaker.modules.configs import Compute, SourceCode
from sagemaker.modules.train import ModelTrainer

[material] = sys.argv[1:]
trainer = ModelTrainer(
    training_image="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.2.0-cpu-py310",
    source_code=SourceCode(source_dir=f"{material}/source", command="echo done"),
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1),
    base_job_name="modules",
)
trainer.train(wait=False)
print("NAME", trainer._latest_training_job.training_job_name)
