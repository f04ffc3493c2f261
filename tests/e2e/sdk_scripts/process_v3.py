"""Processing with unchanged SDK v3 code: nothing in it knows of the emulator."""

import sys
from concurrent.futures import ThreadPoolExecutor

from sagemaker.core.processing import FrameworkProcessor, ScriptProcessor
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.2.0-cpu-py310"
source, bucket = sys.argv[1:]
machine = {
    "role": "arn:aws:iam::123456789012:role/SageMakerRole",
    "image_uri": IMAGE,
    "command": ["python3"],
    "instance_type": "ml.m5.xlarge",
}


def data(distribution="FullyReplicated"):
    return ProcessingInput(
        input_name="data",
        s3_input=ProcessingS3Input(
            s3_uri=f"s3://{bucket}/data/train",
            local_path="/opt/ml/processing/input/data",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
            s3_data_distribution_type=distribution,
        ),
    )


def output(name):
    return ProcessingOutput(
        output_name=name,
        s3_output=ProcessingS3Output(
            s3_uri=f"s3://{bucket}/processed/{name}",
            local_path="/opt/ml/processing/output",
            s3_upload_mode="EndOfJob",
        ),
    )


def script():
    """One file, with its log shown while it runs."""
    processor = ScriptProcessor(instance_count=1, env={"WHO": "v3"}, **machine)
    processor.run(
        code=f"{source}/processing/alone.py",
        inputs=[data()],
        outputs=[output("script-v3")],
        arguments=["--fast", "yes"],
    )
    print("STATUS", processor.latest_job.refresh().processing_job_status)


def framework():
    """A source directory on two instances that each get a part of the data."""
    processor = FrameworkProcessor(instance_count=2, **machine)
    processor.run(
        code="process.py",
        source_dir=f"{source}/processing",
        inputs=[data("ShardedByS3Key")],
        outputs=[output("framework-v3")],
        arguments=["--label", "sum"],
        logs=False,
    )


with ThreadPoolExecutor(2) as pool:
    for done in [pool.submit(part) for part in (script, framework)]:
        done.result()
