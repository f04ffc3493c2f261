"""Train, deploy, predict and delete, with boto3 alone.

python ../make_data.py data
python deploy_boto3.py --data data
"""

import argparse
import io
import json
import tarfile
import time
from pathlib import Path

import boto3
import numpy as np

HERE = Path(__file__).parent
REGISTRY = "763104351884.dkr.ecr.{region}.amazonaws.com"

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.m5.large")
args = parser.parse_args()

session = boto3.Session()
region, account = session.region_name, session.client("sts").get_caller_identity()["Account"]
s3, sagemaker = session.client("s3"), session.client("sagemaker")
runtime = session.client("sagemaker-runtime")
name = f"digits-hosting-{time.strftime('%Y%m%d-%H%M%S')}"
role = f"arn:aws:iam::{account}:role/SageMakerRole"
registry = REGISTRY.format(region=region)
bucket = f"sagemaker-{region}-{account}"
where = (
    {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
)
try:
    s3.create_bucket(Bucket=bucket, **where)
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass

# Train.
s3.upload_file(str(args.data / "train" / "train.csv"), bucket, f"{name}/data/train.csv")
source = io.BytesIO()
with tarfile.open(fileobj=source, mode="w:gz") as tar:
    for script in ("train.py", "inference.py"):
        tar.add(HERE / script, script)
s3.put_object(Bucket=bucket, Key=f"{name}/source/sourcedir.tar.gz", Body=source.getvalue())
sagemaker.create_training_job(
    TrainingJobName=name,
    RoleArn=role,
    AlgorithmSpecification={
        "TrainingImage": f"{registry}/pytorch-training:2.7-cpu-py312",
        "TrainingInputMode": "File",
    },
    HyperParameters={
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{bucket}/{name}/source/sourcedir.tar.gz",
    },
    InputDataConfig=[
        {
            "ChannelName": "train",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"s3://{bucket}/{name}/data/",
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        }
    ],
    OutputDataConfig={"S3OutputPath": f"s3://{bucket}/"},
    ResourceConfig={"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
    StoppingCondition={"MaxRuntimeInSeconds": 3600},
)
print("created", name, flush=True)
waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 5, "MaxAttempts": 720})
trained = sagemaker.describe_training_job(TrainingJobName=name)
model_data = trained["ModelArtifacts"]["S3ModelArtifacts"]
print(trained["TrainingJobStatus"], model_data, flush=True)

# Deploy.
sagemaker.create_model(
    ModelName=name,
    ExecutionRoleArn=role,
    PrimaryContainer={
        "Image": f"{registry}/pytorch-inference:2.6.0-cpu-py312",
        "ModelDataUrl": model_data,
        "Environment": {"SAGEMAKER_PROGRAM": "inference.py"},
    },
)
sagemaker.create_endpoint_config(
    EndpointConfigName=name,
    ProductionVariants=[
        {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": args.instance_type,
            "InitialInstanceCount": 1,
        }
    ],
)
sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
sagemaker.get_waiter("endpoint_in_service").wait(
    EndpointName=name, WaiterConfig={"Delay": 5, "MaxAttempts": 360}
)
print(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"], flush=True)

# Predict.
table = np.loadtxt(args.data / "test" / "test.csv", delimiter=",")
answer = runtime.invoke_endpoint(
    EndpointName=name,
    ContentType="application/json",
    Accept="application/json",
    Body=json.dumps(table[:, 1:].tolist()),
)
predicted = np.array(json.load(answer["Body"]))
print(f"endpoint_accuracy={(predicted == table[:, 0]).mean():.4f};", flush=True)

# Delete.
sagemaker.delete_endpoint(EndpointName=name)
sagemaker.get_waiter("endpoint_deleted").wait(
    EndpointName=name, WaiterConfig={"Delay": 5, "MaxAttempts": 60}
)
sagemaker.delete_endpoint_config(EndpointConfigName=name)
sagemaker.delete_model(ModelName=name)
print("deleted", name)
