"""A script on several instances that finds its own rank, with the SageMaker Python SDK v3.

pip install sagemaker-train
python ../make_data.py data
python submit_sdk_v3.py --data data
"""

import argparse
from pathlib import Path

from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.c5.xlarge")
parser.add_argument("--instance-count", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

session = Session()
image = image_uris.retrieve(
    framework="pytorch",
    region=session.boto_region_name,
    version="2.7",
    py_version="py312",
    instance_type=args.instance_type,
    image_scope="training",
)
trainer = ModelTrainer(
    training_image=image,
    source_code=SourceCode(source_dir=str(Path(__file__).parent), entry_script="train.py"),
    compute=Compute(instance_type=args.instance_type, instance_count=args.instance_count),
    hyperparameters={"epochs": args.epochs},
    base_job_name="script-mode-ddp",
    sagemaker_session=session,
)
trainer.train(
    input_data_config=[
        InputData(
            channel_name=channel,
            data_source=session.upload_data(
                str(args.data / channel),
                bucket=session.default_bucket(),
                key_prefix=f"digits/{channel}",
            ),
        )
        for channel in ("train", "test")
    ]
)
job = trainer._latest_training_job
print(job.training_job_status, job.model_artifacts.s3_model_artifacts)
