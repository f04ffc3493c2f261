"""The scripts under examples/ run as they are, and so does the demo of the README."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from emulators import REPOSITORY, free_port, submit_example

README = REPOSITORY / "README.md"
WITH_SDKS = (
    "digits_single",
    "hf_trainer",
    "lightning",
    "script_mode_ddp",
    "spot_checkpoints",
    "torch_distributed",
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def said(
    request: pytest.FixtureRequest, emulator: Any, digits: Path
) -> Iterator[Mapping[str, Future[str]]]:
    """What each script of the selected tests prints: they wait most of the time, so three run."""
    scripts = {
        item.callspec.params["script"]
        for item in request.session.items
        if item.path == Path(__file__)
        and "script" in getattr(getattr(item, "callspec", None), "params", ())
    }
    pythons: dict[str, Path | str] = {"boto3": sys.executable}
    for sdk in ("v2", "v3"):
        if any(sdk in script for script in scripts):
            pythons[f"sdk_{sdk}"] = request.getfixturevalue(f"sdk_{sdk}")
    with ThreadPoolExecutor(3) as pool:
        yield {
            script: pool.submit(
                submit_example,
                pythons[Path(script).stem.partition("_")[2]],
                script,
                digits,
                emulator.environment,
            )
            for script in sorted(scripts)
        }
        pool.shutdown(cancel_futures=True)


Said = Mapping[str, Future[str]]


@pytest.mark.parametrize(
    "script",
    [
        f"{name}/submit_boto3.py"
        for name in ("digits_single", "processing", "script_mode_ddp", "torch_distributed")
    ],
)
def test_with_boto3(script: str, said: Said) -> None:
    assert "Completed s3://" in said[script].result()


@pytest.mark.sdk
@pytest.mark.parametrize("script", [f"{name}/submit_sdk_v2.py" for name in WITH_SDKS])
def test_with_sdk_v2(script: str, said: Said) -> None:
    text = said[script].result()
    assert "test_accuracy=" in text
    assert "model.tar.gz" in text


@pytest.mark.sdk
@pytest.mark.parametrize("script", ["smddp/submit_sdk_v2.py"])
def test_smddp(script: str, said: Said) -> None:
    text = said[script].result()
    assert "rank 1 of 2 on algo-2" in text
    assert "test_accuracy=" in text


@pytest.mark.sdk
@pytest.mark.parametrize("script", [f"processing/submit_sdk_{sdk}.py" for sdk in ("v2", "v3")])
def test_processing(script: str, said: Said) -> None:
    text = said[script].result()
    assert '{"train": 1149, "test": 288}' in text
    assert "Completed s3://" in text


def assert_deployed(text: str) -> None:
    """An endpoint answered with the right digits, and is gone."""
    found = re.findall(r"_accuracy=([0-9.]+);", text)
    assert found
    assert all(float(accuracy) > 0.9 for accuracy in found)
    assert "deleted " in text.splitlines()[-1]


@pytest.mark.parametrize("script", ["hosting/deploy_boto3.py"])
def test_hosting_with_boto3(script: str, said: Said) -> None:
    assert_deployed(said[script].result())


@pytest.mark.sdk
@pytest.mark.parametrize("script", [f"hosting/deploy_sdk_{sdk}.py" for sdk in ("v2", "v3")])
def test_hosting_with_sdks(script: str, said: Said) -> None:
    assert_deployed(said[script].result())


@pytest.mark.sdk
@pytest.mark.parametrize("script", ["remote_function/submit_sdk_v2.py"])
def test_a_remote_function(script: str, said: Said) -> None:
    assert "slope=3.00;" in said[script].result()


@pytest.mark.sdk
@pytest.mark.parametrize("script", [f"{name}/submit_sdk_v3.py" for name in WITH_SDKS])
def test_with_sdk_v3(script: str, said: Said) -> None:
    assert "Completed s3://" in said[script].result()


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("boto3", "Completed s3://"),
        pytest.param("sdk_v2", "model.tar.gz", marks=pytest.mark.sdk),
        pytest.param("sdk_v3", "", marks=pytest.mark.sdk),
    ],
)
def test_the_first_script_of_the_readme(
    client: str, expected: str, emulator: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    code = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL
    )
    files, script = dict(code), f"with_{client}.py"
    (tmp_path / "src").mkdir()
    for name in ("src/train.py", script):
        (tmp_path / name).write_text(files[name])
    python = sys.executable if client == "boto3" else request.getfixturevalue(client)
    done = subprocess.run(
        [python, script],
        cwd=tmp_path,
        env=emulator.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert expected in done.stdout, f"{done.stdout}\n{done.stderr}"


def test_the_demo_trains_and_deploys_a_good_model(tmp_path: Path) -> None:
    where = ["--state-dir", tmp_path / "state", "--port", str(free_port())]
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "demo", *where],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "model.tar.gz" in done.stdout
    alone, served = re.findall(r"(?:accuracy|endpoint)  ([0-9.]+) on ", done.stdout)
    assert alone == served
