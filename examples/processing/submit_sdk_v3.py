"""A processing job on one instance, with the SageMaker Python SDK v3.

pip install sagemaker-core
python ../make_data.py data
python submit_sdk_v3.py --data data
"""

import argparse
import logging
from pathlib import Path

from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.processing import FrameworkProcessor
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)

ROOT = "/opt/ml/processing"

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--instance-type", default="ml.m5.xlarge")
args = parser.parse_args()

logging.basicConfig(level=logging.WARNING)
session = Session()
data = session.upload_data(
    str(args.data / "train"), bucket=session.default_bucket(), key_prefix="digits-processing/data"
)
processor = FrameworkProcessor(
    image_uri=image_uris.retrieve(
        framework="sklearn", region=session.boto_region_name, version="1.2-1"
    ),
    command=["python3"],
    role=get_execution_role(session),
    instance_type=args.instance_type,
    instance_count=1,
    base_job_name="digits-processing",
    sagemaker_session=session,
)
processor.run(
    code="preprocess.py",
    source_dir=str(Path(__file__).parent),
    inputs=[
        ProcessingInput(
            input_name="data",
            s3_input=ProcessingS3Input(
                s3_uri=data,
                local_path=f"{ROOT}/input/data",
                s3_data_type="S3Prefix",
                s3_input_mode="File",
            ),
        )
    ],
    outputs=[
        ProcessingOutput(
            output_name=name,
            s3_output=ProcessingS3Output(
                s3_uri=f"s3://{session.default_bucket()}/digits-processing/{name}",
                local_path=f"{ROOT}/output/{name}",
                s3_upload_mode="EndOfJob",
            ),
        )
        for name in ("train", "test")
    ],
    arguments=["--test-share", "0.2"],
)
job = processor.latest_job.refresh()
print(job.exit_message)
for output in job.processing_output_config.outputs:
    print(job.processing_job_status, output.s3_output.s3_uri)
