"""A training job from a recipe, with the SageMaker Python SDK v3, in the image of this folder.

The Dockerfile says how to build the image. A recipe that is named, such as `training/llama/...`,
is cloned by the SDK from AWS's repositories; one that is a file of yours needs no network.

pip install sagemaker-train
python ../make_data.py data
python submit_recipe_sdk_v3.py --data data
"""

import argparse
from pathlib import Path

from sagemaker.core.helper.session_helper import Session
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--image", default="my-own-image:1", help="repository and tag")
parser.add_argument("--instance-type", default="ml.g5.xlarge")
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

session = Session()
registry = f"{session.account_id()}.dkr.ecr.{session.boto_region_name}.amazonaws.com"
trainer = ModelTrainer.from_recipe(
    training_recipe=str(Path(__file__).parent / "recipe.yaml"),
    recipe_overrides={"training_config": {"epochs": args.epochs}},
    training_image=f"{registry}/{args.image}",
    compute=Compute(instance_type=args.instance_type),
    base_job_name="recipe",
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
