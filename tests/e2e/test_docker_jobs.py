"""Training jobs whose instances are containers, from the SDKs' call to the model in S3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from e2e_jobs import (
    ADMIN_ROUTES_REFUSED,
    ask_for_admin_routes,
    files_in_tar,
    log_lines,
    run,
    script_request,
    shell_request,
)
from emulators import EXAMPLES, RunningEmulator, start_emulator, submit_example
from test_sdks import SCRIPTS, check_training, run_script, said

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    running = start_emulator(tmp_path_factory.mktemp("docker") / "state", runtime="docker")
    running.client("s3").create_bucket(Bucket="docker-bucket")
    running.client("s3").put_object(
        Bucket="docker-bucket", Key="data/train/numbers.csv", Body=b"1,2\n3,4\n"
    )
    yield running
    running.end()


def test_a_job_by_boto3_says_what_its_image_is_here(containers: Any) -> None:
    sagemaker = containers.client("sagemaker")
    job = run(sagemaker, shell_request("docker-bucket", "hostname; ls /sys/class/net", 2))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    lines = log_lines(containers.client("logs"), job["TrainingJobName"], "algo-2")
    assert any("; sagemaker-emulator/pytorch-training:cpu" in line for line in lines)
    assert "algo-2" in lines
    assert "eth0" in lines


def test_scripts_find_what_the_services_images_hold(containers: Any) -> None:
    names = "matplotlib, pandas, PIL, yaml, requests, scipy, sklearn, tqdm, boto3, mpi4py"
    command = f"python -c 'import {names}; print(sklearn.__name__, pandas.DataFrame().empty)'"
    job = run(containers.client("sagemaker"), shell_request("docker-bucket", command))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "sklearn True" in log_lines(containers.client("logs"), job["TrainingJobName"])


def test_an_image_that_does_not_exist_is_refused(containers: Any) -> None:
    body = shell_request("docker-bucket", "true")
    own = "123456789012.dkr.ecr.us-east-1.amazonaws.com/no-such-repository:latest"
    body["AlgorithmSpecification"]["TrainingImage"] = own
    with pytest.raises(ClientError) as error:
        containers.client("sagemaker").create_training_job(**body)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    assert error.value.response["Error"]["Message"].startswith(
        "Cannot find repository: no-such-repository in registry ID: 123456789012 Please check"
    )


def test_an_image_that_nobody_can_look_up_fails_when_it_is_pulled(containers: Any) -> None:
    body = shell_request("docker-bucket", "true")
    body["AlgorithmSpecification"]["TrainingImage"] = "localhost:1/no-such-image:ever"
    job = run(containers.client("sagemaker"), body)
    assert job["FailureReason"] == (
        "ClientError: Cannot pull algorithm container. Either the image does not exist or its "
        "permissions are incorrect."
    )


def test_the_emulator_is_reached_from_inside(containers: Any) -> None:
    command = (
        "python3 -c \"import boto3; print('buckets', boto3.client('s3').list_buckets()"
        "['Buckets'][0]['Name']); boto3.client('s3').put_object(Bucket='docker-bucket',"
        "Key='from-inside', Body=b'x')\""
    )
    job = run(containers.client("sagemaker"), shell_request("docker-bucket", command))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    found = containers.client("s3").get_object(Bucket="docker-bucket", Key="from-inside")
    assert found["Body"].read() == b"x"


def test_a_container_has_no_admin_routes(containers: Any) -> None:
    assert ask_for_admin_routes(containers, "docker-bucket") == ADMIN_ROUTES_REFUSED


def test_outputs_and_failures_come_out(containers: Any) -> None:
    sagemaker, s3 = containers.client("sagemaker"), containers.client("s3")
    job = run(sagemaker, shell_request("docker-bucket", "echo m > /opt/ml/model/m"))
    assert files_in_tar(s3, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"m": b"m\n"}
    body = shell_request("docker-bucket", "echo -n why > /opt/ml/output/failure; exit 4")
    assert run(sagemaker, body)["FailureReason"] == "AlgorithmError: why, exit code: 4"


def test_a_warm_pool_keeps_the_places_of_its_instances(containers: Any) -> None:
    sagemaker, logs = containers.client("sagemaker"), containers.client("logs")
    command = "grep algo- /etc/hosts; hostname; getent hosts algo-1"

    def pooled(seconds: int) -> tuple[str, list[str]]:
        body = shell_request("docker-bucket", command, 2)
        body["ResourceConfig"] |= {"KeepAlivePeriodInSeconds": seconds, "VolumeSizeInGB": 7}
        job = run(sagemaker, body)
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
        name = job["TrainingJobName"]
        return name, [line for line in log_lines(logs, name, "algo-2") if "algo-2" in line]

    def keepers() -> set[str]:
        listing = ["docker", "ps", "--quiet", "--filter", "label=sagemaker-emulator.keeper-of"]
        done = subprocess.run(listing, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    others = keepers()
    _, first = pooled(600)
    kept = keepers() - others
    name, second = pooled(600)
    assert len(first) == 2, "its address, its name"
    assert (second, keepers() - others) == (first, kept)
    assert len(kept) == 2
    sagemaker.update_training_job(
        TrainingJobName=name, ResourceConfig={"KeepAlivePeriodInSeconds": 0}
    )
    # The job's own containers may be being removed at this moment; what is kept follows.
    deadline = time.monotonic() + 60
    while kept & keepers():
        assert time.monotonic() < deadline, "the pool is over, its containers are not"
        time.sleep(0.05)


@pytest.fixture
def material(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "numbers.csv").write_text("1,2\n3,4\n")
    shutil.copytree(SCRIPTS / "source", tmp_path / "source")
    _bring_requirements(tmp_path / "source")
    return tmp_path


def _bring_requirements(source: Path) -> None:
    """As wheels beside the script: an index that the host reaches may be too far from inside."""
    wanted = ("--no-deps", "--dest", source, "--requirement", source / "requirements.txt")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-qq", *wanted], check=True, timeout=120
    )
    names = sorted(f"./{wheel.name}" for wheel in source.glob("*.whl"))
    (source / "requirements.txt").write_text("\n".join(names))


@pytest.mark.sdk
def test_v2_fit(sdk_v2: Path, containers: Any, material: Path) -> None:
    output = run_script(sdk_v2, containers, "fit_v2.py", str(material), "docker-bucket")
    check_training(output, containers.client("s3"))
    assert said(output, "ATTACHED").strip('"') == "2"


@pytest.mark.sdk
def test_v3_train(sdk_v3: Path, containers: Any, material: Path) -> None:
    data = "s3://docker-bucket/data/train"
    output = run_script(sdk_v3, containers, "train_v3.py", str(material), data)
    check_training(output, containers.client("s3"))
    assert said(output, "STATUS") == "Completed"


def test_requirements_are_installed_as_this_machine_installs(containers: Any) -> None:
    sagemaker, s3 = containers.client("sagemaker"), containers.client("s3")
    files = {
        "requirements.txt": "iniconfig\n",
        "train.py": "import iniconfig; print('installed', iniconfig.__name__)\n",
    }
    body = script_request(s3, "docker-bucket", files)
    job = run(sagemaker, body, timeout=280)
    lines = log_lines(containers.client("logs"), body["TrainingJobName"])
    assert job["TrainingJobStatus"] == "Completed", lines[-30:]
    assert any("installed iniconfig" in line for line in lines), lines[-30:]


def test_an_instance_has_no_more_memory_than_its_type(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(
        'enforce_memory = true\n[instance_types."ml.small.256"]\nvcpu = 1\nmemory_gib = 0.25\n'
    )
    emulator = start_emulator(tmp_path / "state", "--config", str(config), runtime="docker")
    try:
        emulator.client("s3").create_bucket(Bucket="small")
        sagemaker = emulator.client("sagemaker")

        def ended(megabytes: int) -> dict[str, Any]:
            command = f'python3 -c "print(len(bytearray({megabytes} << 20)))"'
            body = shell_request("small", command)
            body["ResourceConfig"]["InstanceType"] = "ml.small.256"
            return run(sagemaker, body)

        assert ended(64)["TrainingJobStatus"] == "Completed"
        reason = ended(512)["FailureReason"]
    finally:
        emulator.end()
    assert reason.startswith("ClientError: Please use an instance type with more memory")


@pytest.fixture
def own_image() -> Iterator[str]:
    """The image of examples/own_image, from what the engine has; its repository and tag."""
    image = f"my-own-image:test{os.getpid()}"
    name = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{image}"
    base = "BASE_IMAGE=sagemaker-emulator/pytorch-training:cpu"
    build = ["docker", "build", "--quiet", "--tag", name, "--build-arg", base]
    subprocess.run([*build, EXAMPLES / "own_image"], check=True, timeout=300)
    yield image
    subprocess.run(["docker", "rmi", "--force", name], check=False, capture_output=True)


@pytest.mark.sdk
def test_an_image_of_ones_own_and_a_recipe(
    containers: RunningEmulator, own_image: str, digits: Path, sdk_v2: Path, sdk_v3: Path
) -> None:
    scripts: dict[str, tuple[Path | str, str]] = {
        "submit_boto3.py": (sys.executable, "Completed s3://"),
        "submit_sdk_v2.py": (sdk_v2, "model.tar.gz"),
        "submit_sdk_v3.py": (sdk_v3, "Completed s3://"),
        "submit_recipe_sdk_v3.py": (sdk_v3, "Completed s3://"),
    }

    def submit(script: str) -> str:
        python, _ = scripts[script]
        path, given = f"own_image/{script}", ("--image", own_image, "--epochs", "2")
        return submit_example(python, path, digits, containers.environment, *given)

    with ThreadPoolExecutor(2) as pool:
        texts = dict(zip(scripts, pool.map(submit, scripts), strict=True))
    for script, (_, expected) in scripts.items():
        assert expected in texts[script], texts[script]
    sagemaker = containers.client("sagemaker")
    listed = sagemaker.list_training_jobs(NameContains="recipe-")["TrainingJobSummaries"]
    lines = log_lines(containers.client("logs"), listed[0]["TrainingJobName"])
    # As many epochs as the overrides of the recipe say.
    assert [line.partition(" ")[0] for line in lines if "epoch=" in line] == ["epoch=1", "epoch=2"]
