"""The protocols against botocore's own serializers and parsers as the other side."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import botocore.awsrequest
import botocore.parsers
import botocore.serialize
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.aws.wire.http import HttpRequest
from emulator.aws.wire.json_protocol import JsonProtocol, SerializationError, iso_to_epoch
from emulator.aws.wire.protocols import protocol_of
from emulator.aws.wire.query_protocol import MalformedInput, QueryProtocol
from emulator.aws.wire.service_models import operation_model, service_model
from emulator.model.errors import ApiError, NotBuilt, UnknownOperation, ValidationError

REQUEST_ID = "11111111-2222-4333-8444-555555555555"


def operation(service: str, name: str) -> Any:
    model = service_model(service)
    assert model is not None
    found = operation_model(model, name)
    assert found is not None
    return found


def sent(
    service: str, name: str, params: dict[str, Any], protocol: str | None = None
) -> HttpRequest:
    """A request as botocore would send it."""
    spoken = protocol or operation(service, name).service_model.metadata["protocol"]
    serializer = botocore.serialize.create_serializer(spoken, include_validation=False)
    wire = serializer.serialize_to_request(params, operation(service, name))
    body = wire["body"]
    if isinstance(body, dict):
        request = botocore.awsrequest.AWSRequest(method="POST", url="http://x/", data=body)
        body = request.prepare().body
    return HttpRequest(
        wire["method"],
        wire["url_path"],
        "",
        {name.lower(): value for name, value in wire["headers"].items()},
        body if isinstance(body, bytes) else body.encode(),
    )


def understood(service: str, name: str, params: dict[str, Any], protocol: str | None = None) -> Any:
    request = sent(service, name, params, protocol)
    model = service_model(service)
    assert model is not None
    speaking = protocol_of(request, model)
    assert speaking.operation_name(request) == name
    return speaking.parse(request, operation(service, name))


def received(service: str, name: str, result: dict[str, Any], protocol: str) -> Any:
    """An answer as botocore reads it."""
    model = service_model(service)
    assert model is not None
    speaking = QueryProtocol(model) if protocol == "query" else JsonProtocol(model, "1.1")
    body = speaking.serialize(operation(service, name), result, REQUEST_ID)
    parser = botocore.parsers.create_parser(protocol)
    answer = {"status_code": 200, "headers": {}, "body": body}
    parsed = parser.parse(answer, operation(service, name).output_shape)
    parsed.pop("ResponseMetadata", None)
    return parsed


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
xml_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


def values_of(shape: Any, text: st.SearchStrategy[str], depth: int = 0) -> st.SearchStrategy[Any]:
    """Any value of a shape, deep structures left out."""
    kind = shape.type_name
    if kind == "structure":
        members = {
            name: values_of(member, text, depth + 1)
            for name, member in shape.members.items()
            if depth < 4
        }
        return st.fixed_dictionaries({}, optional=members)
    if kind == "list":
        return st.lists(values_of(shape.member, text, depth + 1), min_size=1, max_size=2)
    if kind == "map":
        return st.dictionaries(
            text, values_of(shape.value, text, depth + 1), min_size=1, max_size=2
        )
    return {
        "string": text,
        "boolean": st.booleans(),
        "integer": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "timestamp": st.integers(0, 4_000_000_000),
        "blob": st.binary(max_size=8),
    }[kind]


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("sagemaker", "CreateTrainingJob"),
        ("sagemaker", "ListTrainingJobs"),
        ("logs", "PutLogEvents"),
        ("logs", "FilterLogEvents"),
        ("ecr", "BatchGetImage"),
    ],
)
def test_json_requests_come_through(service: str, name: str) -> None:
    @given(values_of(operation(service, name).input_shape, texts))
    def check(params: dict[str, Any]) -> None:
        assert understood(service, name, params) == params

    check()


@pytest.mark.parametrize(
    ("service", "name"),
    [("sts", "AssumeRole"), ("iam", "SimulatePrincipalPolicy"), ("iam", "GetRole")],
)
def test_query_requests_come_through(service: str, name: str) -> None:
    @given(values_of(operation(service, name).input_shape, xml_texts))
    def check(params: dict[str, Any]) -> None:
        assert without_empty(understood(service, name, params)) == without_empty(params)

    check()


def without_empty(value: Any) -> Any:
    """The query protocol has no way to say "an empty structure"."""
    if isinstance(value, dict):
        kept = {name: without_empty(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in ({}, [], None)}
    if isinstance(value, list):
        return [item for item in map(without_empty, value) if item not in ({}, [], None)]
    return value


def test_cloudwatch_is_understood_in_both_its_protocols() -> None:
    params = {
        "Namespace": "/aws/sagemaker/TrainingJobs",
        "MetricName": "loss",
        "Dimensions": [{"Name": "TrainingJobName", "Value": "a-job"}],
        "Statistics": ["Average"],
        "Period": 60,
    }
    assert understood("cloudwatch", "GetMetricStatistics", params, "json") == params
    assert understood("cloudwatch", "GetMetricStatistics", params, "query") == params


@pytest.mark.parametrize(
    "name", ["DescribeTrainingJob", "ListTrainingJobs", "CreateTrainingJob", "ListTags"]
)
def test_json_answers_come_through(name: str) -> None:
    @given(values_of(operation("sagemaker", name).output_shape, texts))
    def check(result: dict[str, Any]) -> None:
        assert received("sagemaker", name, result, "json") == in_calendar(
            operation("sagemaker", name).output_shape, result
        )

    check()


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("sts", "AssumeRole"),
        ("sts", "GetCallerIdentity"),
        ("iam", "GetRole"),
        ("iam", "SimulatePrincipalPolicy"),
        ("cloudwatch", "GetMetricStatistics"),
    ],
)
def test_query_answers_come_through(service: str, name: str) -> None:
    @given(values_of(operation(service, name).output_shape, xml_texts))
    def check(result: dict[str, Any]) -> None:
        shape = operation(service, name).output_shape
        assert received(service, name, result, "query") == in_calendar(shape, result)

    check()


def in_calendar(shape: Any, value: Any) -> Any:
    """The same with times as botocore gives them."""
    if shape.type_name == "structure":
        return {name: in_calendar(shape.members[name], item) for name, item in value.items()}
    if shape.type_name == "list":
        return [in_calendar(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: in_calendar(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return datetime.fromtimestamp(value, timezone.utc)
    return value


# --- the bytes themselves ------------------------------------------------------------------


def json_bytes(name: str, result: dict[str, Any]) -> bytes:
    model = service_model("sagemaker")
    assert model is not None
    return JsonProtocol(model, "1.1").serialize(operation("sagemaker", name), result, REQUEST_ID)


def test_bodies_are_as_recorded_from_the_service() -> None:
    assert json_bytes("StopTrainingJob", {}) == b""
    assert json_bytes("DeleteTags", {}) == b"{}"
    assert json_bytes("ListTags", {"Tags": [], "NextToken": None}) == b'{"Tags":[]}'
    assert json_bytes("ListTrainingJobs", {"TrainingJobSummaries": []}) == (
        b'{"TrainingJobSummaries":[]}'
    )


def test_times_have_milliseconds() -> None:
    result = {"CreationTime": 1517407649.2940001, "LastModifiedTime": 1517407650}
    assert json_bytes("DescribeTrainingJob", result) == (
        b'{"CreationTime":1517407649.294,"LastModifiedTime":1517407650}'
    )


def test_unicode_and_half_surrogates_do_not_break_an_answer() -> None:
    body = json_bytes("DescribeTrainingJob", {"FailureReason": "kaputt \ud800 ü"})
    assert json.loads(body) == {"FailureReason": "kaputt ? ü"}


def test_xml_cannot_be_broken_by_control_characters() -> None:
    got = received("iam", "GetRole", {"Role": {"RoleName": "a\x00<&>\ud800b"}}, "query")
    assert got == {"Role": {"RoleName": "a\ufffd<&>\ufffdb"}}


# --- what cannot be read -------------------------------------------------------------------


def parse_json(name: str, body: bytes) -> Any:
    model = service_model("sagemaker")
    assert model is not None
    request = HttpRequest("POST", "/", "", {"x-amz-target": f"SageMaker.{name}"}, body)
    return JsonProtocol(model, "1.1").parse(request, operation("sagemaker", name))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'"x"',
        b"1",
        b'{"MaxResults": 1,}',
        b"\xff\xfe",
        b'{"MaxResults": NaN}',
        b'{"NameContains": "\\ud800"}',
        b'{"MaxResults": 1e999}',
        b'{"MaxResults": ' + b"9" * 10_000 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_gets_no_message(body: bytes) -> None:
    with pytest.raises(SerializationError) as error:
        parse_json("ListTrainingJobs", body)
    assert error.value.message == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[]", "Start of list found where not expected"),
        ('{"MaxResults": "1"}', "STRING_VALUE can not be converted to an Integer"),
        ('{"MaxResults": true}', "TRUE_VALUE can not be converted to an Integer"),
        ('{"MaxResults": [1]}', "Start of list found where not expected"),
        ('{"MaxResults": {"a": 1}}', "Start of structure or map found where not expected."),
        ('{"NextToken": 1}', "NUMBER_VALUE can not be converted to a String"),
        ('{"NextToken": 1.5}', "DECIMAL_VALUE can not be converted to a String"),
        ('{"NextToken": false}', "FALSE_VALUE can not be converted to a String"),
        ('{"CreationTimeAfter": "soon"}', "STRING_VALUE can not be converted to a Timestamp"),
        ('{"CreationTimeAfter": 1e300}', "DECIMAL_VALUE can not be converted to a Timestamp"),
    ],
)
def test_a_wrong_type_is_told_in_the_services_words(body: str, message: str) -> None:
    with pytest.raises(SerializationError) as error:
        parse_json("ListTrainingJobs", body.encode())
    assert error.value.message == message


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ({"InputDataConfig": "x"}, "Expected list or null"),
        ({"ResourceConfig": "x"}, "Expected null"),
        ({"ResourceConfig": []}, "Start of list found where not expected"),
        ({"HyperParameters": []}, "Start of list found where not expected"),
        ({"HyperParameters": {"lr": 0.1}}, "DECIMAL_VALUE can not be converted to a String"),
        ({"EnableNetworkIsolation": "yes"}, "STRING_VALUE can not be converted to an Boolean"),
    ],
)
def test_a_wrong_type_deeper_down(member: dict[str, Any], message: str) -> None:
    with pytest.raises(SerializationError) as error:
        parse_json("CreateTrainingJob", json.dumps(member).encode())
    assert error.value.message == message


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:01.123456789Z", 1.123456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 86400),
    ],
)
def test_iso_times(text: str, epoch: float) -> None:
    assert iso_to_epoch(text) == epoch


def test_unknown_members_and_nulls_are_skipped() -> None:
    assert parse_json("ListTrainingJobs", b'{"Foo": 1, "MaxResults": null}') == {}


def test_times_are_read_as_numbers_and_as_text() -> None:
    body = b'{"CreationTimeAfter": "2026-11-22T22:24:21Z", "CreationTimeBefore": 1.5e9}'
    assert parse_json("ListTrainingJobs", body) == {
        "CreationTimeAfter": datetime(2026, 11, 22, 22, 24, 21, tzinfo=timezone.utc).timestamp(),
        "CreationTimeBefore": 1.5e9,
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused(body: bytes) -> None:
    with suppress(SerializationError):
        assert isinstance(parse_json("CreateTrainingJob", body), dict)


def test_a_form_with_a_word_for_a_number() -> None:
    model = service_model("sts")
    assert model is not None
    request = HttpRequest("POST", "/", "", {}, b"Action=AssumeRole&DurationSeconds=long&RoleArn=a")
    with pytest.raises(MalformedInput, match="'long' as integer"):
        QueryProtocol(model).parse(request, operation("sts", "AssumeRole"))


def test_a_form_with_absurd_names_costs_nothing() -> None:
    model = service_model("iam")
    assert model is not None
    body = b"ActionNames.member.999999999=x&ActionNames.member.1=s3:PutObject&" + b"a." * 1_000_000
    request = HttpRequest("POST", "/", "", {}, body)
    parsed = QueryProtocol(model).parse(request, operation("iam", "SimulatePrincipalPolicy"))
    assert parsed == {"ActionNames": ["s3:PutObject", "x"]}


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "protocol"), [("sagemaker", "json"), ("logs", "json"), ("iam", "query")]
)
def test_clients_read_errors(service: str, protocol: str) -> None:
    model = service_model(service)
    assert model is not None
    speaking = QueryProtocol(model) if protocol == "query" else JsonProtocol(model, "1.1")
    body = speaking.serialize_error(ValidationError("not <so>"), REQUEST_ID)
    answer = {"status_code": 400, "headers": {}, "body": body}
    error = botocore.parsers.create_parser(protocol).parse(answer, None)["Error"]
    assert (error["Code"], error["Message"]) == ("ValidationException", "not <so>")


def test_an_error_with_a_model_spells_its_message_as_the_model_does() -> None:
    model = service_model("sagemaker")
    assert model is not None
    body = JsonProtocol(model, "1.1").serialize_error(
        ApiError("taken", code="ResourceInUse"), REQUEST_ID
    )
    assert body == b'{"__type":"ResourceInUse","Message":"taken"}'


def test_another_services_target_is_an_unknown_operation() -> None:
    model = service_model("sagemaker")
    assert model is not None
    request = HttpRequest("POST", "/", "", {"x-amz-target": "Logs_20140328.ListTrainingJobs"})
    with pytest.raises(UnknownOperation):
        JsonProtocol(model, "1.1").operation_name(request)


def test_a_protocol_that_is_not_spoken_names_the_service() -> None:
    model = service_model("route53")
    assert model is not None
    request = HttpRequest("POST", "/2013-04-01/hostedzone", "", {"content-type": "text/xml"})
    with pytest.raises(NotBuilt, match="route53"):
        protocol_of(request, model)
