"""Train, deploy, predict and delete, with the SageMaker Python SDK v3.

pip install sagemaker-serve
python ../make_data.py data
python deploy_sdk_v3.py --data data
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import EndpointConfig
from sagemaker.serve import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, SourceCode

HERE = Path(__file__).parent

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.m5.large")
args = parser.parse_args()

session = Session()
role = get_execution_role(session)


def image(scope, instance_type):
    return image_uris.retrieve(
        framework="pytorch",
        region=session.boto_region_name,
        version="2.5",
        py_version="py311",
        instance_type=instance_type,
        image_scope=scope,
    )


trainer = ModelTrainer(
    training_image=image("training", "ml.c5.xlarge"),
    role=role,
    source_code=SourceCode(source_dir=str(HERE), entry_script="train.py"),
    compute=Compute(instance_type="ml.c5.xlarge", instance_count=1),
    base_job_name="digits-hosting",
    sagemaker_session=session,
)
data = session.upload_data(
    str(args.data / "train"), bucket=session.default_bucket(), key_prefix="digits/train"
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source=data)], logs=False)
model_data = trainer._latest_training_job.model_artifacts.s3_model_artifacts

name = f"digits-hosting-{time.strftime('%Y%m%d-%H%M%S')}"
builder = ModelBuilder(
    s3_model_data_url=model_data,
    image_uri=image("inference", args.instance_type),
    source_code=SourceCode(source_dir=str(HERE), entry_script="inference.py"),
    role_arn=role,
    instance_type=args.instance_type,
    sagemaker_session=session,
)
model = builder.build(model_name=name)
endpoint = builder.deploy(endpoint_name=name, initial_instance_count=1)
print(endpoint.refresh().endpoint_status, flush=True)

table = np.loadtxt(args.data / "test" / "test.csv", delimiter=",")
answer = endpoint.invoke(
    body=json.dumps(table[:, 1:].tolist()),
    content_type="application/json",
    accept="application/json",
)
predicted = np.array(json.loads(answer.body.read()))
print(f"endpoint_accuracy={(predicted == table[:, 0]).mean():.4f};", flush=True)

endpoint.delete()
endpoint.wait_for_delete()
EndpointConfig.get(endpoint_config_name=name).delete()
model.delete()
print("deleted", name)
