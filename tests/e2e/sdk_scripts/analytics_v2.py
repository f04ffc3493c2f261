"""An unchanged SDK v2 script that reads its job's metrics as a data frame."""

import sys

from sagemaker.estimator import Estimator

bucket, image = sys.argv[1:]
estimator = Estimator(
    image_uri=image,
    role="SageMakerRole",
    instance_count=1,
    instance_type="ml.m5.xlarge",
    output_path=f"s3://{bucket}/analytics",
    container_entry_point=["/bin/sh", "-c"],
    container_arguments=['for loss in 1 2 3; do echo "loss=$loss;"; done'],
    metric_definitions=[{"Name": "train:loss", "Regex": "loss=([0-9]+);"}],
)
estimator.fit()
frame = estimator.training_job_analytics.dataframe()
print("ROWS", frame.to_json(orient="records"))
