"""A processing job on one instance, with the SageMaker Python SDK v2.

pip install "sagemaker<3"
python ../make_data.py data
python submit_sdk_v2.py --data data
"""

import argparse
from pathlib import Path

import sagemaker
from sagemaker.processing import ProcessingInput, ProcessingOutput
from sagemaker.sklearn.processing import SKLearnProcessor

ROOT = "/opt/ml/processing"

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.m5.xlarge")
args = parser.parse_args()

session = sagemaker.Session()
processor = SKLearnProcessor(
    framework_version="1.2-1",
    role=sagemaker.get_execution_role(session),
    instance_type=args.instance_type,
    instance_count=1,
    base_job_name="digits-processing",
    sagemaker_session=session,
)
processor.run(
    code=str(Path(__file__).parent / "preprocess.py"),
    inputs=[ProcessingInput(source=str(args.data / "train"), destination=f"{ROOT}/input/data")],
    outputs=[
        ProcessingOutput(output_name=name, source=f"{ROOT}/output/{name}")
        for name in ("train", "test")
    ],
    arguments=["--test-share", "0.2"],
)
job = processor.latest_job.describe()
print(job["ExitMessage"])
for output in job["ProcessingOutputConfig"]["Outputs"]:
    print(job["ProcessingJobStatus"], output["S3Output"]["S3Uri"])
