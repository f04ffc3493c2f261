from __future__ import annotations

import pytest

from emulator.drivers.aws_hosts import Reach, refusal

SERVICES = [
    "sts.us-east-1.amazonaws.com",
    "sts.amazonaws.com.",
    "api.sagemaker.eu-west-1.amazonaws.com",
    "logs.cn-north-1.amazonaws.com.cn",
    "monitoring.us-east-1.api.aws",
    "763104351884.dkr.ecr.us-east-1.amazonaws.com",
    "sm-pysdk-t-us-west-2.s3.us-west-2.amazonaws.com",
]
DATA = [
    "ossci-datasets.s3.amazonaws.com",
    "s3.eu-west-1.amazonaws.com",
    "bucket.s3-accelerate.amazonaws.com",
    "a.bucket.s3.dualstack.us-east-1.amazonaws.com",
    "fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "d-111122223333.d.codeartifact.us-west-2.amazonaws.com",
    "tracking-1.us-east-1.elb.amazonaws.com",
    "ec2-1-2-3-4.compute-1.amazonaws.com",
]
ELSEWHERE = ["index.example", "amazonaws.com.example.org", "notamazonaws.com", "127.0.0.1"]


@pytest.mark.parametrize(
    ("reach", "refused"),
    [("data", SERVICES), ("all", []), ("none", [*SERVICES, *DATA])],
)
def test_which_hosts_are_refused(reach: Reach, refused: list[str]) -> None:
    hosts = [*SERVICES, *DATA, *ELSEWHERE]
    assert [host for host in hosts if refusal(host, reach)] == refused


def test_the_refusal_names_the_host_and_the_setting() -> None:
    told = refusal("sts.us-east-1.amazonaws.com", "data")
    assert "sts.us-east-1.amazonaws.com is AWS itself" in told
    assert "EMULATOR_JOBS_REACH_AWS=all" in told
