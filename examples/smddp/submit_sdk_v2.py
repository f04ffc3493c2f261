"""SageMaker's own data parallel library (SMDDP), with the SageMaker Python SDK v2.

The SDK accepts it for a few instance types of eight GPUs each, and for PyTorch up to 2.2.

pip install "sagemaker<3"
python ../make_data.py data
python submit_sdk_v2.py --data data
"""

import argparse
from pathlib import Path

import sagemaker
from sagemaker.pytorch import PyTorch

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.p4d.24xlarge")
parser.add_argument("--instance-count", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

session = sagemaker.Session()
inputs = {
    channel: session.upload_data(str(args.data / channel), key_prefix=f"digits/{channel}")
    for channel in ("train", "test")
}
estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(Path(__file__).parent),
    framework_version="2.2.0",
    py_version="py310",
    instance_type=args.instance_type,
    instance_count=args.instance_count,
    distribution={"smdistributed": {"dataparallel": {"enabled": True}}},
    hyperparameters={"epochs": args.epochs},
    sagemaker_session=session,
)
estimator.fit(inputs)
print(estimator.model_data)
