"""Search: what is found, in which order, and what cannot be asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from threading import Event
from typing import Any

import pytest

from emulator.aws.operation import Call
from emulator.aws.services.describe import REQUEST_MEMBERS, describe, shown_member
from emulator.aws.services.search import WAITING, operations
from emulator.database import Database
from emulator.model.errors import ApiError, NotBuilt, ValidationError
from emulator.model.lifecycle import Lifecycle, Phase
from emulator.model.record import Job
from emulator.model.scope import Scope
from emulator.resources import KINDS
from emulator.resources.training import TRAINING, job_id, training_job
from emulator.telemetry.metrics.statistics import Sample
from emulator.workloads.store.runs import MIGRATIONS, JobStore

SCOPE = Scope("123456789012", "us-east-1")


def job(name: str, created: float, **changes: Any) -> Job:
    request = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": "my:latest", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        "OutputDataConfig": {"S3OutputPath": "s3://b/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **changes,
    }
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
    return Job(training_job(request, SCOPE), Lifecycle.begin(created), tags=tags)


def channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
    return {"ChannelName": name, "DataSource": source}


JOBS = (
    job(
        "alpha",
        1_700_000_000,
        HyperParameters={"lr": "0.1", "epochs": "3", "optimizer.name": "adam"},
        Tags=[{"Key": "team", "Value": "vision"}],
        InputDataConfig=[channel("train", "s3://b/cats"), channel("test", "s3://b/dogs")],
    ),
    job(
        "beta",
        1_700_000_100,
        HyperParameters={"lr": '"0.5"', "epochs": "20", "optimizer.name": "sgd"},
        InputDataConfig=[channel("train", "s3://b/dogs")],
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 4},
    ),
    job("gamma", 1_700_000_200, Environment={"MODE": "fast"}),
)
_HOME = TemporaryDirectory()


def shelf(*jobs: Job) -> JobStore:
    """A store that holds these jobs."""
    store = JobStore(Database(Path(mkdtemp(dir=_HOME.name), "jobs.sqlite3"), MIGRATIONS), KINDS)
    for one in jobs:
        store.create(one.spec, one.life.created)
        store.update(job_id(SCOPE, one.spec.name), partial(_replaced, one))
    return store


def _replaced(new: Job, _: Job) -> Job:
    return new


@cache
def usual_shelf() -> JobStore:
    return shelf(*JOBS)


def search(jobs: JobStore | None = None, scope: Scope = SCOPE, **params: Any) -> dict[str, Any]:
    handler = operations(jobs or usual_shelf())["Search"]
    answer = handler(Call(scope, {"Resource": "TrainingJob", **params}))
    assert answer is not None
    return dict(answer)


def names(answer: dict[str, Any]) -> list[str]:
    return [result["TrainingJob"]["TrainingJobName"] for result in answer["Results"]]


def found(*filters: tuple[str, ...], **more: Any) -> set[str]:
    """The jobs that pass these filters: a name, an operator and a value each."""
    members = ("Name", "Operator", "Value")
    listed = [dict(zip(members, one, strict=False)) for one in filters]
    expression = {**({"Filters": listed} if listed else {}), **more}
    return set(names(search(SearchExpression=expression)))


def refusal(**params: Any) -> str:
    with pytest.raises(ValidationError) as error:
        search(**params)
    return error.value.message


@pytest.mark.parametrize(
    ("name", "operator", "value", "wanted"),
    [
        ("TrainingJobName", "Equals", "beta", "beta"),
        ("TrainingJobName", "NotEquals", "beta", "alpha gamma"),
        ("TrainingJobName", "Contains", "a", "alpha beta gamma"),
        ("TrainingJobName", "Contains", "alp", "alpha"),
        ("TrainingJobName", "In", "beta, gamma,delta", "beta gamma"),
        ("HyperParameters.lr", "LessThan", "0.5", "alpha"),
        ("HyperParameters.lr", "LessThanOrEqualTo", "0.5", "alpha beta"),
        ("HyperParameters.lr", "LessThan", "1", "alpha beta"),
        ("HyperParameters.lr", "Equals", "0", "alpha beta"),
        ("HyperParameters.epochs", "GreaterThan", "3", "beta"),
        ("HyperParameters.epochs", "GreaterThanOrEqualTo", "3", "alpha beta"),
        ("HyperParameters.optimizer.name", "Equals", "adam", "alpha"),
        ("HyperParameters.lr", "Exists", None, "alpha beta"),
        ("HyperParameters.lr", "NotExists", None, "gamma"),
        ("Environment.MODE", "Equals", "fast", "gamma"),
        ("Tags.team", "Equals", "vision", "alpha"),
        ("Tags.team", "NotExists", None, "beta gamma"),
        ("ResourceConfig.InstanceCount", "GreaterThan", "1", "beta"),
        ("EnableManagedSpotTraining", "Equals", "true", "beta"),
        ("EnableManagedSpotTraining", "NotEquals", "true", "alpha gamma"),
        ("CreationTime", "GreaterThan", "2023-11-14T22:13:20", "beta gamma"),
        ("CreationTime", "LessThanOrEqualTo", "2023-11-14T22:13:20Z", "alpha"),
        ("InputDataConfig.ChannelName", "Equals", "test", "alpha"),
        ("InputDataConfig", "Exists", None, "alpha beta"),
        ("TrainingEndTime", "Exists", None, ""),
        ("TrainingJobName", None, "beta", "beta"),
        ("Tags.team", None, None, "alpha"),
    ],
)
def test_a_filter(name: str, operator: str | None, value: str | None, wanted: str) -> None:
    given = {"Name": name, "Operator": operator, "Value": value}
    filters = [{key: text for key, text in given.items() if text is not None}]
    assert set(names(search(SearchExpression={"Filters": filters}))) == set(wanted.split())


def test_filters_of_a_nested_property_mean_one_element() -> None:
    train = {"Name": "InputDataConfig.ChannelName", "Operator": "Equals", "Value": "train"}
    uri = "InputDataConfig.DataSource.S3DataSource.S3Uri"
    dogs = {"Name": uri, "Operator": "Contains", "Value": "dogs"}
    nested = {"NestedPropertyName": "InputDataConfig", "Filters": [train, dogs]}
    assert found(NestedFilters=[nested]) == {"beta"}
    assert found(Filters=[train, dogs]) == {"alpha", "beta"}


def test_expressions_combine() -> None:
    few = {"Filters": [{"Name": "HyperParameters.epochs", "Operator": "LessThan", "Value": "5"}]}
    last = {"Filters": [{"Name": "TrainingJobName", "Value": "gamma"}]}
    assert found(SubExpressions=[few, last]) == set()
    assert found(SubExpressions=[few, last], Operator="Or") == {"alpha", "gamma"}
    assert found(("Tags.team", "Exists"), SubExpressions=[few]) == {"alpha"}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ({}, "at least one subexpression, filter, or nested filter"),
        ({"Filters": [{"Name": "NoSuch", "Value": "x"}]}, "Unknown property: NoSuch"),
        ({"Filters": [{"Name": "ResourceConfig.No", "Value": "x"}]}, "ResourceConfig.No"),
        (
            {"Filters": [{"Name": "TrainingJobName", "Operator": "LessThan", "Value": "x"}]},
            "LessThan is not supported for the text property TrainingJobName",
        ),
        (
            {"Filters": [{"Name": "CreationTime", "Operator": "Contains", "Value": "x"}]},
            "Contains is not supported for the time property CreationTime",
        ),
        ({"Filters": [{"Name": "CreationTime", "Value": "soon"}]}, "ISO 8601"),
        ({"Filters": [{"Name": "ResourceConfig.InstanceCount", "Value": "x"}]}, "an integer or"),
        ({"Filters": [{"Name": "EnableManagedSpotTraining", "Value": "x"}]}, "true or false"),
        ({"Filters": [{"Name": "TrainingJobName", "Operator": "Equals"}]}, "needs a value"),
        ({"Filters": [{"Name": "ResourceConfig", "Value": "x"}]}, "no value of its own"),
        (
            {"Filters": [{"Name": "TrainingJobName", "Operator": "Contains", "Value": "a"}] * 2},
            "'CONTAINS' operator usage limit of 1 exceeded.",
        ),
        ({"SubExpressions": [{"Filters": [{"Name": "RoleArn"}] * 20}] * 3}, "at most 50"),
        (
            {
                "NestedFilters": [
                    {"NestedPropertyName": "InputDataConfig", "Filters": [{"Name": "RoleArn"}]}
                ]
            },
            "RoleArn is not part of InputDataConfig",
        ),
    ],
)
def test_what_cannot_be_asked(expression: dict[str, Any], words: str) -> None:
    assert words in refusal(SearchExpression=expression)


def test_the_last_modified_comes_first_unless_asked_otherwise() -> None:
    assert names(search()) == ["gamma", "beta", "alpha"]
    assert names(search(SortBy="TrainingJobName", SortOrder="Ascending")) == [
        *("alpha", "beta", "gamma")
    ]


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_hyperparameters_are_sorted_by_the_numbers_in_them(order: str) -> None:
    values = ["nan", "-inf", "3", "10", "abc"]  # the one that is no number counts as a text
    jobs = [job(f"j{n}", 5.0, HyperParameters={"x": value}) for n, value in enumerate(values)]
    answer = search(shelf(*jobs), SortBy="HyperParameters.x", SortOrder=order)
    ascending = ["j1", "j2", "j3", "j4", "j0"]
    assert names(answer) == (ascending if order == "Ascending" else ascending[::-1])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *product(
            [
                ("TrainingJobName", "Contains", "m"),
                ("TrainingJobStatus", "Equals", "InProgress"),
                ("CreationTime", "GreaterThan", "2023-11-14T22:13:20"),
                ("LastModifiedTime", "LessThanOrEqualTo", "2023-11-14T22:15:00Z"),
                ("Tags.team", "Equals", "vision"),
            ],
            [
                ("TrainingJobName", "In", "alpha, gamma"),
                ("TrainingJobName", "NotEquals", "gamma"),
                ("TrainingJobStatus", "In", "Completed,Failed"),
                ("CreationTime", "Equals", "2023-11-14T22:15:00"),
                ("Tags.team", "Equals", "speech"),
                ("Tags.team", "Exists"),
                ("Environment.MODE", "Equals", "fast"),
            ],
        )
    ],
)
def test_the_database_finds_what_a_test_of_each_job_finds(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    """A property that no column has sends the same search through every job."""
    slowly = {"SubExpressions": [{"Filters": [{"Name": "RoleArn", "Operator": "Exists"}]}]}
    assert found(first, second) == found(first, second, **slowly)
    assert found(first, second) == found(first) & found(second)


@pytest.mark.parametrize(("order", "wanted"), [("Ascending", "ab"), ("Descending", "ba")])
def test_what_lacks_the_property_comes_last(order: str, wanted: str) -> None:
    for name in ("HyperParameters.epochs", "HyperParameters.optimizer.name"):
        answer = names(search(SortBy=name, SortOrder=order))
        assert [name[0] for name in answer] == [*wanted, "g"]


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
@pytest.mark.parametrize("by", ["HyperParameters.lr", "TrainingJobStatus", "CreationTime"])
def test_pages_hold_every_job_once(by: str, order: str) -> None:
    ordering: dict[str, Any] = {"SortBy": by, "SortOrder": order}
    everything = search(**ordering)
    assert "NextToken" not in {k for k, v in everything.items() if v is not None}
    assert everything["TotalHits"] == {"Value": 3, "Relation": "EqualTo"}
    seen: list[str] = []
    token: dict[str, Any] = {}
    for _ in range(3):
        answer = search(MaxResults=1, **ordering, **token)
        seen += names(answer)
        token = {"NextToken": answer["NextToken"]} if answer["NextToken"] else {}
    assert seen == names(everything)
    assert token == {}


@pytest.mark.parametrize("token", ["x", "bnVsbA==", "WzEsICJhIiwgImIiXQ=="])
def test_a_made_up_token(token: str) -> None:
    assert refusal(NextToken=token) == "Invalid NextToken"


def test_a_token_of_another_order() -> None:
    token = search(MaxResults=1, SortBy="CreationTime")["NextToken"]
    assert search(MaxResults=1, SortBy="LastModifiedTime", NextToken=token)["Results"]
    assert refusal(SortBy="TrainingJobName", NextToken=token) == "Invalid NextToken"


def test_a_result_is_the_job_as_described_with_its_tags() -> None:
    [result] = search(SearchExpression={"Filters": [{"Name": "Tags.team"}]})["Results"]
    shown = result["TrainingJob"]
    assert shown["Tags"] == [{"Key": "team", "Value": "vision"}]
    assert shown["TrainingJobStatus"] == "InProgress"
    assert shown["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}


def test_metrics_are_found_by_name() -> None:
    def last(job: Job) -> dict[str, Sample]:
        value = {"alpha": 0.9, "beta": 0.4}.get(job.spec.name)
        return {} if value is None else {"accuracy": Sample.of(value, 1_700_000_050)}

    handler = operations(usual_shelf(), last)["Search"]

    def found_by(operator: str, value: str) -> list[str]:
        filters = [{"Name": "Metrics.accuracy", "Operator": operator, "Value": value}]
        params = {"Resource": "TrainingJob", "SearchExpression": {"Filters": filters}}
        answer = handler(Call(SCOPE, {**params, "SortBy": "Metrics.accuracy"}))
        assert answer is not None
        return names(dict(answer))

    assert found_by("GreaterThan", "0.5") == ["alpha"]
    assert found_by("LessThan", "1") == ["alpha", "beta"]
    assert found_by("NotExists", "") == ["gamma"]


def test_an_end_can_be_searched_for() -> None:
    ended = job("ended", 1_700_000_000)
    life = ended.life.finish(Phase.FAILED, "Training job failed", 1_700_000_050, "ClientError")
    filters = [{"Name": "FailureReason", "Operator": "Contains", "Value": "ClientError"}]
    assert names(search(shelf(Job(ended.spec, life)), SearchExpression={"Filters": filters})) == [
        "ended"
    ]


def test_other_accounts_and_resources() -> None:
    assert names(search(scope=Scope("210987654321", "us-east-1"))) == []
    assert names(search(CrossAccountFilterOption="CrossAccount")) == []
    with pytest.raises(NotBuilt, match="Experiment"):
        search(Resource="Experiment")


def test_suggestions() -> None:
    suggest = operations(usual_shelf())["GetSearchSuggestions"]
    hint = {"PropertyNameQuery": {"PropertyNameHint": "instancetype"}}
    answer = suggest(Call(SCOPE, {"Resource": "TrainingJob", "SuggestionQuery": hint}))
    assert answer is not None
    suggested = [one["PropertyName"] for one in answer["PropertyNameSuggestions"]]
    assert "ResourceConfig.InstanceType" in suggested
    assert all("instancetype" in name.lower() for name in suggested)
    everything = suggest(Call(SCOPE, {"Resource": "TrainingJob"}))
    assert everything is not None
    assert len(everything["PropertyNameSuggestions"]) == 20


def test_what_is_read_of_a_request_alone_is_what_describe_shows() -> None:
    for one in JOBS:
        shown = describe(one)
        [excerpt] = (
            excerpt
            for excerpt in usual_shelf().excerpts(TRAINING.name, SCOPE, (), sorted(REQUEST_MEMBERS))
            if excerpt.name == one.spec.name
        )
        for name, asked in excerpt.members.items():
            assert shown_member(name, asked) == shown.get(name), name


class Reading:
    """A shelf that says how the jobs were read, and lets no one go on before it is told to."""

    def __init__(self, go_on: Event):
        self.go_on = go_on
        self.ways: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def read(*arguments: Any) -> Any:
            self.ways.append(name)
            assert self.go_on.wait(60)
            return getattr(usual_shelf(), name)(*arguments)

        return read


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("HyperParameters.lr", "excerpts"),
        ("ResourceConfig.InstanceType", "excerpts"),
        ("InputDataConfig.ChannelName", "excerpts"),
        ("FailureReason", "each"),
        ("Metrics.loss", "each"),
        ("TrainingJobName", "find"),
    ],
)
def test_no_more_is_read_of_the_jobs_than_the_question_needs(name: str, way: str) -> None:
    jobs = Reading(Event())
    jobs.go_on.set()
    search(jobs, SortBy=name)  # type: ignore[arg-type]
    assert jobs.ways[0] == way


def test_one_search_goes_through_the_jobs_and_few_wait() -> None:
    jobs = Reading(Event())
    handler = operations(jobs)["Search"]  # type: ignore[arg-type]
    call = Call(SCOPE, {"Resource": "TrainingJob", "SortBy": "HyperParameters.lr"})
    with ThreadPoolExecutor(WAITING + 1) as pool:
        asked = [pool.submit(handler, call) for _ in range(WAITING + 1)]
        # One too many was asked; all others wait until the jobs may be read.
        refused = next(as_completed(asked, timeout=60))
        error = refused.exception()
        assert isinstance(error, ApiError)
        assert error.code == "ThrottlingException"
        jobs.go_on.set()
        answers = [one.result(60) for one in asked if one is not refused]
    assert [len(answer["Results"]) for answer in answers if answer] == [3] * WAITING
