"""What users of SDK v2 do with a job that runs: attach, logs, stop."""

import sys
import time

import sagemaker
from sagemaker.estimator import Estimator

bucket, image, name = sys.argv[1:]
estimator = Estimator(
    image_uri=image,
    role="arn:aws:iam::123456789012:role/SageMakerRole",
    instance_count=1,
    instance_type="ml.m5.large",
    output_path=f"s3://{bucket}/out",
    container_entry_point=["/bin/bash", "-c"],
    container_arguments=["echo waiting; trap 'echo saved; exit 0' TERM; sleep 600 & wait"],
    tags=[{"Key": "made-by", "Value": "v2"}],
    disable_profiler=True,
)
estimator.fit(wait=False, job_name=name)
session = sagemaker.Session()
while session.describe_training_job(name)["SecondaryStatus"] != "Training":
    time.sleep(0.5)
session.stop_training_job(name)
session.wait_for_job(name, poll=1)
attached = Estimator.attach(name)
print("ATTACHED", attached.latest_training_job.describe()["TrainingJobStatus"])
print("TAGS", session.list_tags(attached.latest_training_job.describe()["TrainingJobArn"]))
attached.logs()
by_tag = {"Filters": [{"Name": "Tags.made-by", "Operator": "Equals", "Value": "v2"}]}
results = session.search("TrainingJob", by_tag)["Results"]
print("FOUND", [result["TrainingJob"]["TrainingJobName"] for result in results])
