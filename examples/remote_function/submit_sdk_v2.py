"""A function of a notebook as a training job, with the SageMaker Python SDK v2.

pip install "sagemaker<3"
python submit_sdk_v2.py

The job needs the SDK as well: `dependencies` names it.
"""

import argparse
import tempfile
from pathlib import Path

import sagemaker
from sagemaker.remote_function import remote

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, help="not used: the function makes its own")
parser.add_argument("--instance-type", default="ml.c5.xlarge")
args = parser.parse_args()

session = sagemaker.Session()
requirements = Path(tempfile.mkdtemp()) / "requirements.txt"
requirements.write_text("sagemaker<3\n")


@remote(
    instance_type=args.instance_type,
    dependencies=str(requirements),
    image_uri=sagemaker.image_uris.retrieve(
        "pytorch",
        session.boto_region_name,
        version="2.6",
        py_version="py312",
        instance_type=args.instance_type,
        image_scope="training",
    ),
    sagemaker_session=session,
)
def fit(slope, points):
    """The slope of a line, from noisy points."""
    import torch  # noqa: PLC0415 - only the job has it

    torch.manual_seed(0)
    x = torch.linspace(0, 1, points)
    y = slope * x + 0.01 * torch.randn(points)
    return float((x @ y) / (x @ x))


print(f"slope={fit(3.0, points=1000):.2f};")
