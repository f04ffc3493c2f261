"""What scripts written for AWS's images find in this project's."""

from __future__ import annotations

import subprocess

import pytest
from docker_jobs import IMAGE

pytestmark = pytest.mark.docker
CODE = """
import accelerate, boto3, pandas, s3torchconnector, sagemaker, sklearn, torch
from sagemaker.remote_function import remote
assert sagemaker.__version__.startswith("2."), sagemaker.__version__
print("all there")
"""


def test_packages_and_the_aws_command() -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", IMAGE, "sh", "-c", 'aws --version && python -c "$0"', CODE],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aws-cli/")
    assert done.stdout.endswith("all there\n")
