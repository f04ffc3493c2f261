"""Constraints of the models: every one of the training operations, and the service's words."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.aws.validation.java_patterns import java_pattern
from emulator.aws.validation.validate import LISTED, VALUE_LIMIT, failures_of, java_text, validate
from emulator.aws.validation.validity import test_of as quick_test_of
from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_protocol import JsonProtocol
from emulator.aws.wire.service_models import operation_model, service_model
from emulator.model.errors import ERROR_LIMIT, ValidationError

DATA = Path(__file__).parents[2] / "data"
WRONG = ("\n", "§", "!", " ", "", "a" * 20)


def input_shape(name: str) -> Any:
    model = service_model("sagemaker")
    assert model is not None
    operation = operation_model(model, name)
    assert operation is not None
    return operation.input_shape


def complaint(name: str, params: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as error:
        validate(input_shape(name), params)
    return error.value.message


def test_an_instance_type_of_this_machines_own_is_accepted_wherever_it_stands() -> None:
    shape = input_shape("CreateTrainingJob")
    groups = [
        {"InstanceGroupName": "g", "InstanceType": name, "InstanceCount": 1}
        for name in ("ml.local.2gpu", "ml.none.such")
    ]
    params = {
        "TrainingJobName": "j",
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "OutputDataConfig": {"S3OutputPath": "s3://b/o"},
        "ResourceConfig": {"InstanceGroups": groups, "VolumeSizeInGB": 1},
        "StoppingCondition": {},
    }
    validate(shape, params, has_instance_type=lambda name: name.startswith("ml."))
    with pytest.raises(ValidationError) as error:
        validate(shape, params, has_instance_type=lambda name: name == "ml.local.2gpu")
    assert error.value.message.startswith("1 validation error detected: Value 'ml.none.such' at ")


def test_a_wrong_instance_type_has_a_hint_beside_awss_words() -> None:
    params = minimal(ResourceConfig={"InstanceType": "ml.g5.xlarg", "VolumeSizeInGB": 1})
    with pytest.raises(ValidationError) as error:
        validate(input_shape("CreateTrainingJob"), params)
    assert error.value.hint == "ml.g5.xlarg is no instance type. Did you mean ml.g5.xlarge?"
    assert "Did you mean" not in error.value.message


# --- every documented constraint -----------------------------------------------------------


def documented() -> Iterator[Any]:
    with (DATA / "constraints.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["coral_path"]:
                yield pytest.param(row, id=f"{row['operation']}-{row['coral_path']}")


def violations(row: dict[str, str]) -> Iterator[tuple[Any, str]]:
    """Values that break the row's constraints, one at a time, and what is said of each."""
    kind = row["type"]
    words = "value" if kind in ("integer", "long", "double", "float") else "length"
    if row["enum"]:
        allowed = row["enum"].replace("|", ", ")
        values = "" if allowed.startswith("<") else f"{allowed}]"
        yield "no-such-value", f"Member must satisfy enum value set: [{values}"
        return
    if row["max"]:
        text = f"Member must have {words} less than or equal to {row['max']}"
        yield sized(kind, int(row["max"]) + 1), text
    if row["min"] and (int(row["min"]) > 0 or words == "value"):
        text = f"Member must have {words} greater than or equal to {row['min']}"
        yield sized(kind, int(row["min"]) - 1), text
    if row["pattern"]:
        pattern = java_pattern(row["pattern"])
        assert pattern is not None
        wrong = [word for word in WRONG if not pattern.fullmatch(word)]
        if wrong:
            yield wrong[0], f"Member must satisfy regular expression pattern: {row['pattern']}"


def sized(kind: str, size: int) -> Any:
    if kind == "list":
        return [None] * size
    if kind == "map":
        return {f"k{number}": "v" for number in range(size)}
    return "a" * size if kind == "string" else size


def placed(shape: Any, path: list[str], value: Any) -> Any:
    """The value at the end of a path, with nothing around it but what leads there."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if step == "N":
        return [placed(shape.member, rest[1:], value)]
    if step == "{key}":
        return {value: "v"}
    if step == "{value}":
        return {"k": placed(shape.value, rest, value)}
    name = next(member for member in shape.members if member[0].lower() + member[1:] == step)
    return {name: placed(shape.members[name], rest, value)}


def expected(path: str, value: Any, params: Any, constraint: str) -> re.Pattern[str]:
    """Plain values in lists and maps are reported at the list or map."""
    container, _, last = path.rpartition(".")
    if last == "member":
        path, words = container.removesuffix(".N"), "Member must satisfy constraint: ["
    elif last in ("{key}", "{value}"):
        kind = "keys" if last == "{key}" else "value"
        path, words = container, f"Map {kind} must satisfy constraint: ["
    else:
        words = ""
    at = f" at '{path.replace('.N.', '.1.')}' failed to satisfy constraint: {words}"
    # In brackets stand all constraints of the member, this one among them.
    between = "[^;]*" if words else ""
    return re.compile(re.escape(at) + between + re.escape(constraint))


@pytest.mark.parametrize("row", list(documented()))
def test_every_documented_constraint_is_checked(row: dict[str, str]) -> None:
    shape = input_shape(row["operation"])
    path = row["coral_path"].split(".")
    for value, constraint in violations(row):
        params = placed(shape, path, value)
        message = complaint(row["operation"], params)
        assert expected(row["coral_path"], value, params, constraint).search(message), message
    if row["required"]:
        params = placed(shape, path[:-1], {}) if len(path) > 1 else {}
        at = row["coral_path"].replace(".N.", ".1.")
        assert (
            f"Value null at '{at}' failed to satisfy constraint: Member must not be null"
            in complaint(row["operation"], params)
        )


# --- the service's words -------------------------------------------------------------------

LONG = "pipelines-training-" + "x" * 60


def minimal(**changes: Any) -> dict[str, Any]:
    request = json.loads((DATA / "requests" / "v2" / "none.json").read_text())
    return {**request, **changes}


def test_several_failures_come_in_one_message() -> None:
    pattern = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    assert complaint("CreateTrainingJob", minimal(TrainingJobName=LONG)) == (
        f"2 validation errors detected: Value '{LONG}' at 'trainingJobName' failed to satisfy "
        f"constraint: Member must satisfy regular expression pattern: {pattern}; "
        f"Value '{LONG}' at 'trainingJobName' failed to satisfy constraint: "
        "Member must have length less than or equal to 63"
    )


def test_a_missing_member() -> None:
    request = minimal()
    del request["AlgorithmSpecification"]["TrainingInputMode"]
    assert complaint("CreateTrainingJob", request) == (
        "1 validation error detected: Value null at 'algorithmSpecification.trainingInputMode' "
        "failed to satisfy constraint: Member must not be null"
    )


def test_an_enumeration_in_a_list_of_structures() -> None:
    channel = {"ChannelName": "a", "DataSource": {}, "InputMode": "fastfile"}
    assert complaint("CreateTrainingJob", minimal(InputDataConfig=[channel])) == (
        "1 validation error detected: Value 'fastfile' at 'inputDataConfig.1.member.inputMode' "
        "failed to satisfy constraint: Member must satisfy enum value set: [Pipe, File, FastFile]"
    )


def test_an_instance_type_lists_the_known_ones() -> None:
    resources = {"InstanceType": "ml.t2.medium", "InstanceCount": 1, "VolumeSizeInGB": 1}
    message = complaint("CreateTrainingJob", minimal(ResourceConfig=resources))
    assert message.startswith(
        "1 validation error detected: Value 'ml.t2.medium' at 'resourceConfig.instanceType' "
        "failed to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert "ml.g5.2xlarge, " in message


def test_a_number_out_of_range() -> None:
    assert complaint("ListTrainingJobs", {"MaxResults": 101}) == (
        "1 validation error detected: Value '101' at 'maxResults' failed to satisfy constraint: "
        "Member must have value less than or equal to 100"
    )


def test_an_empty_list() -> None:
    assert complaint("CreateTrainingJob", minimal(InputDataConfig=[])) == (
        "1 validation error detected: Value '[]' at 'inputDataConfig' failed to satisfy "
        "constraint: Member must have length greater than or equal to 1"
    )


def test_a_value_of_a_map_is_told_once_at_the_map() -> None:
    long = "x" * 2501
    parameters = {"a": "1", "b": long, "c": long}
    assert complaint("CreateTrainingJob", minimal(HyperParameters=parameters)) == (
        f"1 validation error detected: Value '{{a=1, b={long}, c={long}}}' at 'hyperParameters' "
        "failed to satisfy constraint: Map value must satisfy constraint: [Member must have "
        "length less than or equal to 2500, Member must have length greater than or equal to 0, "
        "Member must satisfy regular expression pattern: .*]"
    )


def test_an_enormous_value_is_refused_quickly() -> None:
    message = complaint("CreateTrainingJob", minimal(TrainingJobName="a-" * 1_000_000))
    assert "Member must have length less than or equal to 63" in message


@pytest.mark.parametrize("path", sorted((DATA / "requests").glob("*/*.json")), ids=str)
def test_what_the_sdks_send_is_valid(path: Path) -> None:
    other = re.match(r"deploy_(\w+)", path.stem)
    name = other[1] if other else "CreateTrainingJob"
    model = service_model("sagemaker")
    assert model is not None
    request = HttpRequest("POST", "/", "", {}, path.read_bytes())
    params = JsonProtocol(model, "1.1").parse(request, operation_model(model, name))
    assert params == json.loads(path.read_text())
    validate(input_shape(name), params)


# --- any value -----------------------------------------------------------------------------


@given(
    st.text(max_size=70),
    st.one_of(st.none(), st.integers(-10, 200)),
    st.one_of(st.none(), st.sampled_from(["Name", "Status", "", "name"])),
)
def test_the_validator_says_exactly_what_is_wrong(
    contains: str, size: int | None, order: str | None
) -> None:
    params = {"NameContains": contains, "MaxResults": size, "SortBy": order}
    wrong = [
        not re.fullmatch("[a-zA-Z0-9\\-]+", contains),
        len(contains) > 63,
        size is not None and size < 1,
        size is not None and size > 100,
        order is not None and order not in ("Name", "CreationTime", "Status"),
    ]
    if not any(wrong):
        validate(input_shape("ListTrainingJobs"), params)
        return
    message = complaint("ListTrainingJobs", params)
    count = sum(wrong)
    plural = "" if count == 1 else "s"
    assert message.startswith(f"{count} validation error{plural} detected: Value ")
    assert message.count(" failed to satisfy constraint: ") == min(count, LISTED)


def test_java_prints_values_this_way() -> None:
    assert java_text({"a": ["b", True, None], "c": 1}) == "{a=[b, true, null], c=1}"
    assert java_text([[], {}, ["x"]]) == "[[], {}, [x]]"


def test_a_message_repeats_the_beginning_of_a_long_value() -> None:
    message = complaint("ListTrainingJobs", {"NextToken": "a" * 9000})
    assert "'" + "a" * VALUE_LIMIT + "...'" in message
    assert "a" * (VALUE_LIMIT + 1) not in message
    pairs = {f"name{number}": "value" for number in range(200_000)}
    params = {"TrainingJobName": "a", "HyperParameters": pairs}
    message = complaint("CreateTrainingJob", params)
    assert "'{name0=value, name1=value, " in message
    assert len(message) <= ERROR_LIMIT + 3


def test_a_message_lists_some_failures_and_counts_all() -> None:
    tags = [{"Key": "k", "Value": "v" * 300}] * 40_000
    message = complaint("AddTags", {"ResourceArn": "arn:aws:sagemaker:x", "Tags": tags})
    assert message.startswith("40002 validation errors detected: ")
    assert message.count(" failed to satisfy constraint: ") == LISTED
    assert len(message) <= ERROR_LIMIT + 3


def members_anywhere(shape: Any, depth: int = 5) -> st.SearchStrategy[Any]:
    """Values of a shape's type that may break its constraints."""
    kind = shape.type_name
    if depth == 0:  # a shape may contain itself
        return st.none()
    if kind == "structure":
        members = {n: members_anywhere(m, depth - 1) for n, m in shape.members.items()}
        return st.fixed_dictionaries({}, optional=members)
    if kind == "list":
        return st.lists(st.one_of(st.none(), members_anywhere(shape.member, depth - 1)), max_size=2)
    if kind == "map":
        return st.dictionaries(st.sampled_from(WRONG), st.sampled_from([None, *WRONG]), max_size=2)
    if kind in ("integer", "long"):
        return st.sampled_from([-1, 0, 1, 10**9])
    if kind == "boolean":
        return st.booleans()
    if kind == "timestamp":
        return st.just(0.0)
    return st.sampled_from([*WRONG, "s3://bucket/key", "File", *shape.metadata.get("enum", [])[:2]])


@pytest.mark.parametrize("name", ["CreateTrainingJob", "UpdateTrainingJob", "Search", "AddTags"])
@given(data=st.data())
def test_the_quick_test_and_the_words_agree(name: str, data: st.DataObject) -> None:
    shape = input_shape(name)
    params = data.draw(members_anywhere(shape))
    passes = quick_test_of(shape)
    assert passes is not None
    assert passes(params) == (not list(failures_of(shape, params)))
