"""The pages in a real browser, over jobs that really run.

With SCREENSHOTS=DIRECTORY in the environment, a picture of each page is left there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from e2e_endpoints import Hosting
from e2e_jobs import channel, shell_request, wait, wait_for
from emulators import RunningEmulator, start_emulator

from emulator.database import Database
from emulator.model.scope import Scope
from emulator.parts import SCHEMA
from emulator.resources import KINDS
from emulator.resources.training import training_job
from emulator.telemetry.logs.streams import LogStore
from emulator.workloads.store.runs import JobStore

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("the pages need a browser: apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
UI = "/_emulator/ui"
SCOPE = Scope("123456789012", "us-east-1")
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'&amp;'
PATIENCE = 60_000
"""Milliseconds; the machine may be busy."""
GPUS = [
    {"uuid": f"GPU-{n}", "name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559, **load}
    for n, load in enumerate(
        (
            {"busy": 93, "used_mib": 61200},
            {"busy": 88, "used_mib": 60100},
            {"busy": 0, "used_mib": 0},
        )
    )
]
PICTURES = {
    "light": ("machine", "jobs", "job-failed", "compare", "objects", "endpoint"),
    "dark": ("machine", "job"),
}
SCRIPT = """
import json, math, os, pathlib, random, time
print("Training Env:\\n")
print(json.dumps({"hosts": ["algo-1"], "hyperparameters": {"lr": 0.1}}, indent=4))
print("\\nEnvironment variables:\\n")
for number in range(20):
    print(f"SM_VARIABLE_{number}=value")
print("\\nInvoking script with the following command:\\n")
print("/usr/bin/python3 train.py --lr 0.1\\n")
print(HOSTILE)
pathlib.Path("/opt/ml/model/weights").mkdir(parents=True, exist_ok=True)
pathlib.Path("/opt/ml/model/weights/model.bin").write_bytes(os.urandom(20000))
pathlib.Path("/opt/ml/model/config.json").write_text("{}")
random.seed(os.environ["TRAINING_JOB_NAME"])
for step in range(1, STEPS + 1):
    loss = 2.3 * math.exp(-step / 60) + 0.2 + 0.08 * random.random()
    accuracy = 1 - math.exp(-step / 80) - 0.02 * random.random()
    print(f"step={step} loss={loss:.5f} accuracy={accuracy:.4f}", flush=True)
    time.sleep(PAUSE)
if FAIL:
    raise RuntimeError("CUDA error: <device-side> assert triggered")
"""


class Place:
    """A running emulator with jobs, and a browser."""

    def __init__(self, emulator: RunningEmulator, browser: Any):
        self.emulator = emulator
        self.browser = browser
        self.sagemaker = emulator.client("sagemaker")
        self.s3 = emulator.client("s3")
        self.s3.create_bucket(Bucket="lab")
        self.s3.put_object(Bucket="lab", Key="data/train/numbers.csv", Body=b"1,2\n" * 500)

    def run(
        self,
        name: str,
        *,
        steps: int = 40,
        pause: float = 0.0,
        fail: bool = False,
        instances: int = 1,
        gpus: str = "",
    ) -> str:
        """Start a job that prints metrics."""
        script = f"HOSTILE, STEPS, PAUSE, FAIL = {(HOSTILE, steps, pause, fail)!r}\n{SCRIPT}"
        self.s3.put_object(Bucket="lab", Key=f"code/{name}/train.py", Body=script.encode())
        command = "python3 -u /opt/ml/input/data/code/train.py"
        body = shell_request("lab", command, instances, TrainingJobName=name)
        body["AlgorithmSpecification"]["MetricDefinitions"] = [
            {"Name": metric, "Regex": f"{metric}=([0-9.]+)"} for metric in ("loss", "accuracy")
        ]
        body["HyperParameters"] = {"lr": "0.1", "model": "resnet50", "note": "<b>&"}
        body["InputDataConfig"] = [
            channel("lab", "code", f"code/{name}/"),
            channel("lab", "train", "data/train/"),
        ]
        if gpus:
            body["ResourceConfig"]["InstanceType"] = gpus
        self.sagemaker.create_training_job(**body)
        return name

    @contextmanager
    def page(self, path: str, refused: int = 0, **options: Any) -> Iterator[Any]:
        """A page in a browser of its own; nothing may go wrong on it but `refused` requests."""
        wrong: list[str] = []
        host = urlsplit(self.emulator.url).netloc
        context = self.browser.new_context(
            viewport={"width": 1320, "height": 900}, timezone_id="UTC", locale="en-GB", **options
        )
        context.set_default_timeout(PATIENCE)
        shown = context.new_page()

        def look_at_console(message: Any) -> None:
            if message.type in ("error", "warning"):
                wrong.append(f"console: {message.text}")

        def look_at_request(request: Any) -> None:
            if urlsplit(request.url).netloc != host and not request.url.startswith("blob:"):
                wrong.append(f"a request to {request.url}")

        shown.on("console", look_at_console)
        shown.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        shown.on("request", look_at_request)
        began = time.monotonic()
        answer = shown.goto(f"{self.emulator.url}{path}")
        print(f"{path}: shown after {time.monotonic() - began:.2f} s")
        assert answer.status == 200
        yield shown
        assert not shown.evaluate("window.hacked")
        expected = [text for text in wrong if "status of 400" in text]
        assert len(expected) == refused
        assert wrong == expected
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Its own sandbox needs another user than root.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("page")
    (root / "gpus.json").write_text(json.dumps({"gpus": GPUS}))
    config = root / "emulator.toml"
    config.write_text(
        f'gpu_inventory = "{root / "gpus.json"}"\n'
        "system_metrics_seconds = 1\nstop_grace_seconds = 30\n"
    )
    running = start_emulator(root / "state", "--config", str(config))
    ended = Event()
    if os.environ.get("SCREENSHOTS"):
        Thread(target=wander, args=(root / "gpus.json", ended), daemon=True).start()
    yield Place(running, browser)
    ended.set()
    running.end()


@pytest.fixture(scope="module")
def curves(place: Place) -> str:
    """A job of two instances that holds two of the three GPUs and prints on and on."""
    name = place.run("llama-finetune", steps=5000, pause=0.1, instances=2, gpus="ml.g5.xlarge")
    wait_for(place.sagemaker, name, lambda job: job["SecondaryStatus"] == "Training")
    return name


@pytest.fixture(scope="module")
def waiting(place: Place, curves: str) -> str:
    """A job for which there is no room beside the other one."""
    return place.run("vit-base", steps=5000, pause=0.2, instances=2, gpus="ml.g5.xlarge")


@pytest.fixture(scope="module")
def failed(place: Place) -> str:
    name = place.run("broken", fail=True)
    assert wait(place.sagemaker, name)["TrainingJobStatus"] == "Failed"
    return name


@pytest.fixture(scope="module")
def completed(place: Place) -> tuple[str, str]:
    names = (place.run("resnet-1", steps=200), place.run("resnet-2", steps=150))
    for name in names:
        assert wait(place.sagemaker, name)["TrainingJobStatus"] == "Completed"
    return names


def job_path(name: str) -> str:
    return f"{UI}/jobs/training-job/{name}"


def until(page: Any, script: str, value: Any = None) -> None:
    """Wait until the expression is true on the page; its policy forbids playwright's own way."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(script, value):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(100)


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def wander(file: Path, ended: Event) -> None:
    """Let the load of the GPUs that jobs hold change, as it does on a real machine."""
    loads = [90.0, 85.0]
    while not ended.wait(1):
        loads = [min(99.0, max(40.0, load + random.uniform(-9, 9))) for load in loads]
        gpus = [{**gpu, "busy": load} for gpu, load in zip(GPUS, loads, strict=False)]
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"gpus": [*gpus, *GPUS[len(gpus) :]]}))
        new.rename(file)


def findings(page: Any) -> list[str]:
    """What axe-core calls serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations"
        ".filter((v) => ['serious', 'critical'].includes(v.impact))"
        ".map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html).join(' | ')}`))"
    )
    return list(found)


def test_the_root_leads_to_the_machine(place: Place, curves: str, waiting: str) -> None:
    with place.page("/") as page:
        assert urlsplit(page.url).path == f"{UI}/"
        tile = page.locator("#gpu-GPU-0")
        until(page, "document.querySelector('#gpu-GPU-0 .big')?.textContent.endsWith('%')")
        assert curves in tile.inner_text()
        assert "free" in page.locator("#gpu-GPU-2").inner_text()
        until(page, "document.querySelector('#gpu-GPU-0 polyline').getAttribute('points')")
        row = page.locator("#machine-queue tbody tr").first
        assert "needs 2 GPUs, 1 free" in row.inner_text()
        # Held since: the text goes on without a reload.
        before = tile.locator("[data-since]").inner_text()
        until(
            page,
            "(t) => document.querySelector('#gpu-GPU-0 [data-since]').textContent !== t",
            before,
        )


def test_a_job_is_moved_up_and_another_is_stopped_in_the_queue(place: Place, waiting: str) -> None:
    later = place.run("later", instances=2, gpus="ml.g5.xlarge")
    with place.page(f"{UI}/") as page:
        page.get_by_role("button", name=f"Start {later} next").click()
        first = "(n) => document.querySelector('#machine-queue tbody a')?.textContent === n"
        until(page, first, later)
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name=f"Stop {later}").click()
        until(page, first, waiting)
    assert wait(place.sagemaker, later)["TrainingJobStatus"] == "Stopped"


def test_jobs_come_into_the_table_and_can_be_filtered(
    place: Place, curves: str, failed: str, completed: tuple[str, str]
) -> None:
    with place.page(f"{UI}/jobs") as page:
        assert "CUDA" not in page.title()
        row = page.locator("tr", has_text=failed)
        assert "Failed" in row.inner_text()
        assert "loss" in page.locator("tr", has_text=completed[0]).inner_text()
        assert page.locator("tr", has_text=curves).get_by_text("2", exact=True).count()
        place.run("newcomer", steps=1)
        page.get_by_role("link", name="newcomer").wait_for()
        page.get_by_label("Status").select_option("Failed")
        page.wait_for_url("**status=Failed**")
        assert page.locator("tbody tr").count() == 1
        page.goto(f"{place.emulator.url}{UI}/jobs?q=RESNET")
        assert page.locator("tbody tr").count() == 2


def test_curves_grow_and_log_lines_come(place: Place, curves: str) -> None:
    with place.page(job_path(curves)) as page:
        until(page, "document.querySelectorAll('#metrics .chart').length === 2")
        count = "Number(document.querySelector('#metrics .chart').dataset.count)"
        first = page.evaluate(count)
        until(page, f"(n) => {count} > n + 10", first)
        newest = "[...document.querySelectorAll('#log .line')].at(-1).textContent"
        line = page.evaluate(newest)
        until(page, f"(t) => {newest} !== t", line)
        assert page.locator("#metrics .u-series").filter(has_text="algo-2").count() >= 2
        until(page, "document.querySelectorAll('#system .chart').length >= 2")
        page.get_by_role("tab", name="algo-2").click()
        until(page, "document.querySelectorAll('#log .line').length > 0")
        # Curves by time, and on a logarithmic scale, are drawn from what is known already.
        page.get_by_label("log scale").first.check()
        page.get_by_label("by time").first.check()
        until(page, f"(n) => {count} > n", first)


def test_a_zoomed_curve_stays_while_points_come(place: Place, curves: str) -> None:
    with place.page(job_path(curves)) as page:
        until(page, "document.querySelectorAll('#metrics .chart .u-over').length === 2")
        count = "Number(document.querySelector('#metrics .chart').dataset.count)"
        until(page, f"{count} > 20")
        box = page.locator("#metrics .u-over").first.bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 160, box["y"] + 60, steps=4)
        page.mouse.up()
        zoom = "document.querySelector('#metrics .chart').dataset.zoom"
        until(page, f"{zoom} !== undefined && {zoom} !== ''")
        left, now = page.evaluate(zoom), page.evaluate(count)
        until(page, f"(n) => {count} > n", now)
        assert page.evaluate(zoom) == left
        page.mouse.dblclick(box["x"] + 100, box["y"] + 60)
        until(page, f"{zoom} === ''")


def test_hostile_output_is_text(place: Place, completed: tuple[str, str]) -> None:
    with place.page(job_path(completed[0])) as page:
        page.locator("#log .line", has_text="window.hacked").first.wait_for(state="attached")
        assert page.locator("#log img").count() == 0
        assert page.locator("main script").count() == 0
        # The dump of the environment is folded, what follows it is not.
        assert page.locator("#log details.dump").count() >= 1
        assert not page.locator("#log .line", has_text="SM_VARIABLE_1=").is_visible()
        page.get_by_placeholder("Search").fill("ONERROR")
        page.get_by_placeholder("Search").press("Enter")
        page.locator("#log [data-hits] li").first.wait_for()
        assert page.locator("#log [data-hits] img").count() == 0


def test_a_failed_job_says_why(place: Place, failed: str) -> None:
    with place.page(job_path(failed)) as page:
        shown = page.locator(".failure").inner_text()
        assert "AlgorithmError" in shown
        assert "RuntimeError: CUDA error: <device-side> assert triggered" in shown
        until(page, "document.querySelectorAll('#log .line.bad').length >= 2")


def test_data_and_request_of_a_job(place: Place, completed: tuple[str, str]) -> None:
    with place.page(job_path(completed[0])) as page:
        page.locator("#data-title").scroll_into_view_if_needed()
        page.get_by_text("weights/model.bin").wait_for()
        assert "s3://lab/data/train/" in page.locator("main").inner_text()
        page.get_by_role("tab", name="AWS CLI").click()
        assert page.get_by_text("aws sagemaker create-training-job").is_visible()
        page.get_by_role("tab", name="AWS CLI").press("ArrowRight")
        assert page.get_by_text('boto3.client("sagemaker")').is_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download", exact=True).last.click()
        assert download.value.suggested_filename == "model.tar.gz"


def test_a_job_runs_again_with_other_hyperparameters(
    place: Place, completed: tuple[str, str]
) -> None:
    with place.page(job_path(completed[0]), refused=1) as page:
        page.get_by_role("button", name="Run again").click()
        form = page.locator("#again")
        # The service's own words come for what it does not take.
        form.get_by_label("Name", exact=True).fill(completed[1])
        form.get_by_label("Value of lr").fill("0.5 <i>")
        with page.expect_response("**/submit-again*") as refused:
            form.get_by_role("button", name="Run").click()
        assert refused.value.status == 400
        form.get_by_text("already exists").wait_for()
        form.get_by_label("Name", exact=True).fill("resnet-3")
        form.get_by_role("button", name="Run").click()
        page.wait_for_url("**/training-job/resnet-3*")
    described = place.sagemaker.describe_training_job(TrainingJobName="resnet-3")
    assert described["HyperParameters"] == {"lr": "0.5 <i>", "model": "resnet50", "note": "<b>&"}


def test_stop_and_stop_now(place: Place) -> None:
    command = "trap '' TERM; while :; do sleep 1; done"
    place.sagemaker.create_training_job(**shell_request("lab", command, TrainingJobName="stubborn"))
    wait_for(place.sagemaker, "stubborn", lambda job: job["SecondaryStatus"] == "Training")
    with place.page(job_path("stubborn")) as page:
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_role("button", name="Stop now").click()
        page.locator("#job-head .badge.stopped").wait_for()
        assert page.get_by_role("button", name="Stop now").count() == 0


def test_several_jobs_in_one_plot(place: Place, completed: tuple[str, str]) -> None:
    with place.page(f"{UI}/jobs?q=resnet-") as page:
        for name in completed:
            page.get_by_label(f"Compare {name}").check()
        time.sleep(1.5)  # what is chosen stays so when the table is updated
        page.get_by_role("button", name="Compare").click()
        page.wait_for_url("**/compare?**")
        until(page, "document.querySelectorAll('.chart').length === 2")
        legend = page.locator(".chart .u-legend").first.inner_text()
        assert all(name in legend for name in completed)


@pytest.fixture(scope="module")
def endpoint(place: Place) -> str:
    return Hosting(place.emulator, "process").deploy()


def test_an_endpoint_shows_its_requests(place: Place, endpoint: str) -> None:
    with place.page(f"{UI}/endpoints") as page:
        page.get_by_role("link", name=endpoint).click()
        page.locator("#endpoint-head .badge.inservice").wait_for()
        assert "1 of 1 × ml.m5.large" in page.locator("#endpoint-head").inner_text()
        page.get_by_label("Body").fill('{"hello": "<b>"}')
        page.get_by_role("button", name="Send").click()
        until(page, "document.querySelector('[data-invoke] output').textContent.includes('200')")
        assert page.locator("[data-invoke] output b").count() == 0
        until(page, "document.querySelectorAll('#metrics .chart').length >= 3")
        until(page, "document.querySelectorAll('#log .line').length > 0")
        for number in range(20 if os.environ.get("SCREENSHOTS") else 0):
            page.get_by_label("Body").fill(json.dumps({"inputs": [number]}))
            page.get_by_role("button", name="Send").click()
            page.wait_for_timeout(1000)


def test_objects_are_uploaded_shown_and_downloaded(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "a <b>#1%.txt"
    file.write_text(f"hello {HOSTILE}\n")
    with place.page(f"{UI}/objects") as page:
        page.get_by_role("link", name="lab").click()
        page.get_by_role("link", name="data/").click()
        page.wait_for_url("**prefix=data**")
        page.set_input_files("[data-upload]", str(file))
        page.get_by_role("link", name=file.name, exact=True).click()
        page.get_by_text("hello <img").wait_for()
        assert page.locator("main img").count() == 0
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert Path(download.value.path()).read_text() == file.read_text()
        page.goto(f"{place.emulator.url}{UI}/objects/lab?prefix=data/")
    stored = place.s3.get_object(Bucket="lab", Key=f"data/{file.name}")["Body"].read()
    assert stored.decode() == file.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_pages(
    place: Place,
    curves: str,
    failed: str,
    completed: tuple[str, str],
    endpoint: str,
    scheme: str,
) -> None:
    compare = f"{UI}/compare?" + "&".join(f"job=training-job/{name}" for name in completed)
    pages = {
        f"{UI}/": "machine",
        f"{UI}/jobs": "jobs",
        job_path(curves): "job",
        job_path(failed): "job-failed",
        compare: "compare",
        f"{UI}/objects/lab": "objects",
        f"{UI}/endpoints": "endpoints",
        f"{UI}/endpoints/{endpoint}": "endpoint",
    }
    found = {}
    for path, name in pages.items():
        with place.page(path, color_scheme=scheme) as page:
            if "/training-job/" in path or path == compare:
                until(page, "document.querySelectorAll('.chart').length >= 2")
            if name in PICTURES[scheme]:
                picture(page, f"{name}-{scheme}")
            if problems := findings(page):
                found[path] = problems
    assert found == {}


def test_a_phone_shows_all_within_its_width(place: Place, curves: str) -> None:
    for path, name in ((f"{UI}/", "machine"), (f"{UI}/jobs", "jobs"), (job_path(curves), "job")):
        with place.page(path) as page:
            page.set_viewport_size({"width": 390, "height": 844})
            until(page, "document.documentElement.scrollWidth <= innerWidth")
            if name == "job":
                picture(page, "job-phone")


def test_the_table_of_ten_thousand_jobs_is_bounded(place: Place) -> None:
    request = shell_request("lab", "true", TrainingJobName="x")
    with closing(Database(place.emulator.state_dir / "emulator.sqlite3", SCHEMA)) as database:
        records = JobStore(database, KINDS)
        for number in range(10):
            records.create(training_job({**request, "TrainingJobName": f"m-{number}"}, SCOPE), 1.0)
        with database.writing() as connection:
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
                " INSERT INTO workload (kind, account, region, name, request, life, status,"
                " created, modified, runtime) SELECT kind, account, region, 'm-' || i,"
                " replace(request, '\"m-9\"', '\"m-' || i || '\"'), life, 'Completed', created,"
                " modified, runtime FROM workload, n WHERE name = 'm-9'"
            )
            connection.execute("UPDATE workload SET status = 'Completed' WHERE name LIKE 'm-%'")
    with place.page(f"{UI}/jobs") as page:
        assert page.locator("tbody tr").count() == 50
        page.get_by_role("link", name="Older").click()
        page.wait_for_url("**offset=50**")
        assert page.locator("tbody tr").count() == 50
        began = time.monotonic()
        page.goto(f"{place.emulator.url}{UI}/jobs?q=m-9999")
        assert page.locator("tbody tr").count() == 1
        print(f"one of ten thousand: found after {time.monotonic() - began:.2f} s")


def test_a_log_of_a_million_lines_is_a_window(place: Place, completed: tuple[str, str]) -> None:
    name = completed[1]
    logs = LogStore(place.emulator.state_dir / "logs")
    (stream,) = logs.stream_names(SCOPE, "/aws/sagemaker/TrainingJobs", f"{name}/")
    file = logs.path(SCOPE, "/aws/sagemaker/TrainingJobs", stream)
    at = int(file.read_text().splitlines()[-1].partition(" ")[0].partition("=")[0])
    with file.open("a") as lines:
        for start in range(0, 1_000_000, 50_000):
            lines.write("".join(f"{at} line number {n}\n" for n in range(start, start + 50_000)))
    shown = "document.querySelectorAll('#log .line').length"
    with place.page(job_path(name)) as page:
        page.locator("#log .line", has_text="line number 999999").wait_for()
        assert page.evaluate(shown) <= 2000
        for _ in range(6):
            before = page.evaluate("document.querySelector('#log .line').dataset.start")
            page.evaluate("document.querySelector('[data-lines]').scrollTop = 0")
            until(page, "(s) => document.querySelector('#log .line').dataset.start !== s", before)
        assert page.evaluate(shown) <= 2000
        page.get_by_placeholder("Search").fill("line number 77")
        began = time.monotonic()
        page.get_by_placeholder("Search").press("Enter")
        page.locator("#log .line.found", has_text="line number 77").wait_for()
        print(f"a line of a million: found after {time.monotonic() - began:.2f} s")
        assert page.evaluate(shown) <= 2000


def test_from_elsewhere_the_token_opens_the_pages(tmp_path: Path, browser: Any) -> None:
    running = start_emulator(tmp_path / "state", "--host", "0.0.0.0")
    # Another address of the loopback interface under a name that is none of its own.
    url = running.url.replace("127.0.0.1", "workstation.test")
    arguments = ["--no-sandbox", "--host-resolver-rules=MAP workstation.test 127.0.0.1"]
    opened = browser.browser_type.launch(executable_path=CHROMIUM, args=arguments)
    try:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE)
        answer = page.goto(f"{url}/")
        assert answer.status == 403
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Enter").click()
        page.get_by_text("This is not the token.").wait_for()
        page.get_by_label("Token").fill(running.exports["EMULATOR_ADMIN_TOKEN"])
        page.get_by_role("button", name="Enter").click()
        page.get_by_role("heading", name="GPUs").wait_for()
        (cookie,) = page.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["value"] != running.exports["EMULATOR_ADMIN_TOKEN"]
        log = running.log.read_text()
        (address,) = [line for line in log.splitlines() if line.startswith("page: ")]
        page.context.clear_cookies()
        page.goto(address.removeprefix("page: "))
        page.get_by_role("heading", name="GPUs").wait_for()
        assert "token" not in page.url
    finally:
        opened.close()
        running.end()
