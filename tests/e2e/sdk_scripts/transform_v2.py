"""Batch transform with unchanged SDK v2 code: nothing in it knows of the emulator."""

import json
import sys

from sagemaker.model import Model
from sagemaker.s3 import S3Downloader, S3Uploader

image, data, bucket, environment = sys.argv[1:]
model = Model(
    image_uri=image,
    model_data=data,
    role="arn:aws:iam::123456789012:role/SageMakerRole",
    env=json.loads(environment),
)
transformer = model.transformer(
    instance_count=1,
    instance_type="ml.m5.large",
    strategy="SingleRecord",
    assemble_with="Line",
    accept="text/csv",
    output_path=f"s3://{bucket}/transformed",
    max_concurrent_transforms=2,
)
source = S3Uploader.upload_string_as_file_body("id1,1,2\nid2,3,4\n", f"s3://{bucket}/v2/rows.csv")
transformer.transform(
    source,
    content_type="text/csv",
    split_type="Line",
    input_filter="$[1:]",
    join_source="Input",
    output_filter="$[0,-1]",
    wait=True,
    logs=True,
)
rows = S3Downloader.read_file(f"{transformer.output_path}/rows.csv.out")
print("ROWS", json.dumps(rows))
transformer.delete_model()
