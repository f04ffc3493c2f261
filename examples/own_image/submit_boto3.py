"""A training job in an image of your own, with boto3 alone; the Dockerfile says how to build it.

python ../make_data.py data
python submit_boto3.py --data data
"""

import argparse
import time
from pathlib import Path

import boto3

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--image", default="my-own-image:1", help="repository and tag")
parser.add_argument("--instance-type", default="ml.c5.xlarge")
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()

session = boto3.Session()
region, account = session.region_name, session.client("sts").get_caller_identity()["Account"]
s3, sagemaker = session.client("s3"), session.client("sagemaker")
job = f"own-image-{time.strftime('%Y%m%d-%H%M%S')}"
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

sagemaker.create_training_job(
    TrainingJobName=job,
    RoleArn=f"arn:aws:iam::{account}:role/SageMakerRole",
    AlgorithmSpecification={
        "TrainingImage": f"{account}.dkr.ecr.{region}.amazonaws.com/{args.image}",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "test:accuracy", "Regex": "test_accuracy=([0-9.]+);"}],
    },
    HyperParameters={"epochs": str(args.epochs)},
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
    ResourceConfig={"InstanceType": args.instance_type, "InstanceCount": 1, "VolumeSizeInGB": 10},
    StoppingCondition={"MaxRuntimeInSeconds": 3600},
)
print("created", job, flush=True)

waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
waiter.wait(TrainingJobName=job, WaiterConfig={"Delay": 2, "MaxAttempts": 1800})
described = sagemaker.describe_training_job(TrainingJobName=job)
print(
    described["FinalMetricDataList"][0]["MetricName"], described["FinalMetricDataList"][0]["Value"]
)
print(described["TrainingJobStatus"], described["ModelArtifacts"]["S3ModelArtifacts"])
