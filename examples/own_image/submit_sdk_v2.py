"""A training job in an image of your own, with the SageMaker Python SDK v2.

The Dockerfile says how to build the image.

pip install "sagemaker<3"
python ../make_data.py data
python submit_sdk_v2.py --data data
"""

import argparse
from pathlib import Path

import sagemaker
from sagemaker.estimator import Estimator

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--image", default="my-own-image:1", help="repository and tag")
parser.add_argument("--instance-type", default="ml.c5.xlarge")
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()

session = sagemaker.Session()
registry = f"{session.account_id()}.dkr.ecr.{session.boto_region_name}.amazonaws.com"
estimator = Estimator(
    image_uri=f"{registry}/{args.image}",
    instance_type=args.instance_type,
    instance_count=1,
    hyperparameters={"epochs": args.epochs},
    sagemaker_session=session,
)
estimator.fit(
    {
        channel: session.upload_data(str(args.data / channel), key_prefix=f"digits/{channel}")
        for channel in ("train", "test")
    }
)
print(estimator.model_data)
