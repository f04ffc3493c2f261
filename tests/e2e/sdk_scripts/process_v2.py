"""Processing with unchanged SDK v2 code: nothing in it knows of the emulator."""

import sys
from concurrent.futures import ThreadPoolExecutor

from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.network import NetworkConfig
from sagemaker.processing import ProcessingInput, ProcessingOutput, Processor, ScriptProcessor
from sagemaker.pytorch.processing import PyTorchProcessor
from sagemaker.sklearn.processing import SKLearnProcessor

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.2.0-cpu-py310"
source, bucket = sys.argv[1:3]
only = sys.argv[3:]
machine = {"role": "arn:aws:iam::123456789012:role/SageMakerRole", "instance_type": "ml.m5.xlarge"}


def data(path="/opt/ml/processing/input/data"):
    return ProcessingInput(source=f"s3://{bucket}/data/train", destination=path)


def output(name):
    return ProcessingOutput(
        output_name=name,
        source="/opt/ml/processing/output",
        destination=f"s3://{bucket}/processed/{name}",
    )


def script():
    """One file, with its log shown while it runs."""
    processor = ScriptProcessor(
        image_uri=IMAGE, command=["python3"], instance_count=1, env={"WHO": "me"}, **machine
    )
    processor.run(
        code=f"{source}/processing/alone.py",
        inputs=[data()],
        outputs=[output("script")],
        arguments=["--fast", "yes"],
    )
    print("MESSAGE", processor.latest_job.describe()["ExitMessage"])


def framework():
    """A source directory on two instances that each get a part of the data."""
    processor = PyTorchProcessor(
        framework_version="2.2.0", py_version="py310", instance_count=2, **machine
    )
    sharded = data()
    sharded.s3_data_distribution_type = "ShardedByS3Key"
    sharded.s3_input.s3_data_distribution_type = "ShardedByS3Key"
    processor.run(
        code="process.py",
        source_dir=f"{source}/processing",
        inputs=[sharded],
        outputs=[output("framework")],
        arguments=["--label", "sum"],
        logs=False,
    )


def scikit_learn():
    processor = SKLearnProcessor(
        framework_version="1.2-1", instance_count=1, env={"WHO": "sklearn"}, **machine
    )
    processor.run(
        code=f"{source}/processing/alone.py",
        inputs=[data()],
        outputs=[output("scikit-learn")],
        logs=False,
    )


def failing():
    """A plain command in an isolated container."""
    processor = Processor(
        image_uri=IMAGE,
        entrypoint=["bash", "-c", "echo broken > /opt/ml/output/message; exit 3"],
        instance_count=1,
        network_config=NetworkConfig(enable_network_isolation=True),
        **machine,
    )
    try:
        processor.run(logs=False)
    except UnexpectedStatusException as error:
        print("FAILED", error)


with ThreadPoolExecutor(4) as pool:
    parts = {"script": script, "framework": framework, "sklearn": scikit_learn, "failing": failing}
    for done in [pool.submit(parts[name]) for name in only or parts]:
        done.result()
