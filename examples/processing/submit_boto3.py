"""A processing job on one instance, with boto3 alone.

python ../make_data.py data
python submit_boto3.py --data data
"""

import argparse
import time
from pathlib import Path

import boto3

HERE = Path(__file__).parent
IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch-training:2.7-cpu-py312"
ROOT = "/opt/ml/processing"

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.m5.xlarge")
args = parser.parse_args()

session = boto3.Session()
region, account = session.region_name, session.client("sts").get_caller_identity()["Account"]
s3, sagemaker = session.client("s3"), session.client("sagemaker")
job = f"digits-processing-{time.strftime('%Y%m%d-%H%M%S')}"
bucket = f"sagemaker-{region}-{account}"
where = (
    {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
)
try:
    s3.create_bucket(Bucket=bucket, **where)
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass

s3.upload_file(str(args.data / "train" / "train.csv"), bucket, f"{job}/data/train.csv")
s3.upload_file(str(HERE / "preprocess.py"), bucket, f"{job}/code/preprocess.py")


def read_from(name: str) -> dict:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": f"s3://{bucket}/{job}/{name}",
            "LocalPath": f"{ROOT}/input/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        },
    }


def written_to(name: str) -> dict:
    return {
        "OutputName": name,
        "S3Output": {
            "S3Uri": f"s3://{bucket}/{job}/{name}",
            "LocalPath": f"{ROOT}/output/{name}",
            "S3UploadMode": "EndOfJob",
        },
    }


sagemaker.create_processing_job(
    ProcessingJobName=job,
    RoleArn=f"arn:aws:iam::{account}:role/SageMakerRole",
    AppSpecification={
        "ImageUri": IMAGE.format(region=region),
        "ContainerEntrypoint": ["python3", f"{ROOT}/input/code/preprocess.py"],
        "ContainerArguments": ["--test-share", "0.2"],
    },
    ProcessingInputs=[read_from("data"), read_from("code")],
    ProcessingOutputConfig={"Outputs": [written_to("train"), written_to("test")]},
    ProcessingResources={
        "ClusterConfig": {
            "InstanceType": args.instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        }
    },
)
print("created", job, flush=True)

waiter = sagemaker.get_waiter("processing_job_completed_or_stopped")
waiter.wait(ProcessingJobName=job, WaiterConfig={"Delay": 5, "MaxAttempts": 720})
described = sagemaker.describe_processing_job(ProcessingJobName=job)
print(described["ExitMessage"])
for output in described["ProcessingOutputConfig"]["Outputs"]:
    print(described["ProcessingJobStatus"], output["S3Output"]["S3Uri"])
