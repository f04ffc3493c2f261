"""Distributed data parallel under torchrun, with boto3 alone.

python ../make_data.py data
python submit_boto3.py --data data
"""

import argparse
import io
import tarfile
import time
from pathlib import Path

import boto3

HERE = Path(__file__).parent
IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch-training:2.7-cpu-py312"

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.c5.xlarge")
parser.add_argument("--instance-count", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

session = boto3.Session()
region, account = session.region_name, session.client("sts").get_caller_identity()["Account"]
s3, sagemaker = session.client("s3"), session.client("sagemaker")
job = f"torch-distributed-{time.strftime('%Y%m%d-%H%M%S')}"
bucket = f"sagemaker-{region}-{account}"
where = (
    {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
)
try:
    s3.create_bucket(Bucket=bucket, **where)
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass

for channel in ("train", "test"):
    s3.upload_file(
        str(args.data / channel / f"{channel}.csv"), bucket, f"{job}/data/{channel}/{channel}.csv"
    )

source = io.BytesIO()
with tarfile.open(fileobj=source, mode="w:gz") as tar:
    tar.add(HERE / "train.py", "train.py")
s3.put_object(Bucket=bucket, Key=f"{job}/source/sourcedir.tar.gz", Body=source.getvalue())

sagemaker.create_training_job(
    TrainingJobName=job,
    RoleArn=f"arn:aws:iam::{account}:role/SageMakerRole",
    AlgorithmSpecification={
        "TrainingImage": IMAGE.format(region=region),
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "test:accuracy", "Regex": "test_accuracy=([0-9.]+);"}],
    },
    HyperParameters={
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{bucket}/{job}/source/sourcedir.tar.gz",
        "sagemaker_torch_distributed_enabled": "true",
        "epochs": str(args.epochs),
    },
    InputDataConfig=[
        {
            "ChannelName": channel,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{bucket}/{job}/data/{channel}/",
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        }
        for channel in ("train", "test")
    ],
    OutputDataConfig={"S3OutputPath": f"s3://{bucket}/"},
    ResourceConfig={
        "InstanceType": args.instance_type,
        "InstanceCount": args.instance_count,
        "VolumeSizeInGB": 10,
    },
    StoppingCondition={"MaxRuntimeInSeconds": 3600},
)
print("created", job, flush=True)

waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
waiter.wait(TrainingJobName=job, WaiterConfig={"Delay": 5, "MaxAttempts": 720})
described = sagemaker.describe_training_job(TrainingJobName=job)
print(described["TrainingJobStatus"], described["ModelArtifacts"]["S3ModelArtifacts"])
