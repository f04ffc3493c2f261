"""The resource classes of sagemaker-core (SDK v3): nothing in it knows of the emulator."""

import json
import sys

from botocore.exceptions import ClientError
from sagemaker.core.resources import Tag, TrainingJob
from sagemaker.core.shapes import (
    AlgorithmSpecification,
    OutputDataConfig,
    ResourceConfig,
    StoppingCondition,
)

bucket, image, prefix = sys.argv[1:]


def create(name: str, command: str) -> TrainingJob:
    return TrainingJob.create(
        training_job_name=f"{prefix}-{name}",
        algorithm_specification=AlgorithmSpecification(
            training_image=image,
            training_input_mode="File",
            container_entrypoint=["/bin/bash", "-c"],
            container_arguments=[command],
        ),
        role_arn="arn:aws:iam::123456789012:role/SageMakerRole",
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/out"),
        resource_config=ResourceConfig(
            instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=1
        ),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
        tags=[{"key": "made-by", "value": "core"}],
    )


done = create("done", "echo trained")
done.wait(poll=1, timeout=120)
print("DONE", done.training_job_status)

long = create("long", "trap 'exit 0' TERM; sleep 600 & wait")
long.stop()
long.wait(poll=1, timeout=120)
print("STOPPED", TrainingJob.get(training_job_name=long.training_job_name).secondary_status)

found = TrainingJob.get_all(name_contains=prefix, sort_by="Name", sort_order="Ascending")
print("NAMES", json.dumps([job.training_job_name for job in found]))
tags = Tag.get_all(resource_arn=done.training_job_arn)
print("TAGS", json.dumps({tag.key: tag.value for tag in tags}))
done.delete()
try:
    done.refresh()
except ClientError as error:
    print("GONE", error.response["Error"]["Message"])
