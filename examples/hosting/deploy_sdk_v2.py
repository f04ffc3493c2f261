"""Train, deploy, predict and delete, with the SageMaker Python SDK v2.

pip install "sagemaker<3"
python ../make_data.py data
python deploy_sdk_v2.py --data data
"""

import argparse
from pathlib import Path

import numpy as np
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.pytorch import PyTorch, PyTorchModel
from sagemaker.serializers import JSONSerializer

HERE = Path(__file__).parent

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.m5.large")
args = parser.parse_args()

session = sagemaker.Session()
role = sagemaker.get_execution_role(session)
table = np.loadtxt(args.data / "test" / "test.csv", delimiter=",", dtype=np.float32)
pixels, digits = table[:, 1:], table[:, 0]

estimator = PyTorch(
    entry_point="train.py",
    source_dir=str(HERE),
    role=role,
    framework_version="2.5",
    py_version="py311",
    instance_type="ml.c5.xlarge",
    instance_count=1,
    sagemaker_session=session,
)
train = session.upload_data(str(args.data / "train"), key_prefix="digits/train")
estimator.fit({"train": train}, logs=False)

# The short way: the training script serves, and NumPy's format goes both ways.
predictor = estimator.deploy(initial_instance_count=1, instance_type=args.instance_type)
predicted = predictor.predict(pixels)
print(f"estimator_accuracy={(predicted == digits).mean():.4f};", flush=True)
predictor.delete_model()
predictor.delete_endpoint()

# With a script of its own, and JSON.
model = PyTorchModel(
    model_data=estimator.model_data,
    entry_point="inference.py",
    source_dir=str(HERE),
    role=role,
    framework_version="2.5",
    py_version="py311",
    sagemaker_session=session,
)
predictor = model.deploy(
    initial_instance_count=1,
    instance_type=args.instance_type,
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
predicted = np.array(predictor.predict(pixels))
print(f"endpoint_accuracy={(predicted == digits).mean():.4f};", flush=True)
predictor.delete_model()
predictor.delete_endpoint()
print("deleted", predictor.endpoint_name)
