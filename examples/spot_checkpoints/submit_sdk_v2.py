"""Managed spot training with checkpoints, with the SageMaker Python SDK v2.

pip install "sagemaker<3"
python ../make_data.py data
python submit_sdk_v2.py --data data
"""

import argparse
import time
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.c5.xlarge")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seconds-per-epoch", type=float, default=0)
args = parser.parse_args()

session = sagemaker.Session()
inputs = {
    channel: session.upload_data(str(args.data / channel), key_prefix=f"digits/{channel}")
    for channel in ("train", "test")
}
estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parent),
    framework_version="2.6",
    py_version="py312",
    instance_type=args.instance_type,
    instance_count=1,
    use_spot_instances=True,
    max_run=3600,
    max_wait=7200,
    checkpoint_s3_uri=f"s3://{session.default_bucket()}/spot/{time.time():.0f}/checkpoints",
    hyperparameters={"epochs": args.epochs, "seconds-per-epoch": args.seconds_per_epoch},
    metric_definitions=[{"Name": "test:accuracy", "Regex": "test_accuracy=([0-9.]+);"}],
    sagemaker_session=session,
)
estimator.fit(inputs)
print(estimator.model_data)
