"""CloudWatch Logs: the reads that the SDKs, the CLI and dashboards do.

What writes is in log_writes.py.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from emulator.aws.operation import Call, Operations
from emulator.model.errors import ApiError, ResourceNotFound
from emulator.model.scope import Scope
from emulator.telemetry.logs.groups import retention_of
from emulator.telemetry.logs.patterns import UnusablePattern, compile_pattern
from emulator.telemetry.logs.search import Found, Position, search
from emulator.telemetry.logs.streams import NO_GROUP, PAGE_EVENTS, LogEvent, LogStore, StreamInfo

LIST_LIMIT = 50
_CLASS = "STANDARD"
"""The class of all log groups here."""
BAD_TOKEN = "The specified nextToken is invalid."  # noqa: S105

_EVENT_TOKEN = re.compile(r"([fb])/(\d{1,18})")
_T = TypeVar("_T")


class InvalidParameter(ApiError):
    """A parameter is wrong, or does not go with another one."""

    code = "InvalidParameterException"


def operations(logs: LogStore) -> Operations:
    """The operations of CloudWatch Logs over these streams."""
    return {
        "DescribeLogGroups": partial(_describe_log_groups, logs),
        "DescribeLogStreams": partial(_describe_log_streams, logs),
        "GetLogEvents": partial(_get_log_events, logs),
        "FilterLogEvents": partial(_filter_log_events, logs),
    }


def _describe_log_groups(logs: LogStore, call: Call) -> Mapping[str, Any]:
    """All groups, or those whose name starts with a prefix or contains a pattern."""
    params = call.params
    prefix = params.get("logGroupNamePrefix", "")
    pattern = params.get("logGroupNamePattern", "")
    if prefix and pattern:
        raise InvalidParameter(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
        )
    wanted = {_name_in(call.scope, one) for one in params.get("logGroupIdentifiers", ())}
    groups = [
        group
        for group in logs.groups(call.scope, prefix)
        if pattern in group.name and (not wanted or group.name in wanted)
    ]
    if params.get("logGroupClass", _CLASS) != _CLASS:
        groups = []
    page, following = _list_page(groups, params, lambda group: [group.name])
    shown = [
        {
            "logGroupName": group.name,
            "creationTime": group.created,
            "metricFilterCount": 0,
            "arn": f"{_group_arn(call.scope, group.name)}:*",
            "storedBytes": group.stored_bytes,
            "retentionInDays": retention_of(logs, call.scope, group.name),
            "logGroupClass": _CLASS,
            "logGroupArn": _group_arn(call.scope, group.name),
        }
        for group in page
    ]
    return {"logGroups": shown, **following}


def _describe_log_streams(logs: LogStore, call: Call) -> Mapping[str, Any]:
    """A group's streams, by name or by the time of their last event."""
    params, scope, group = call.params, call.scope, _group(call)
    prefix = params.get("logStreamNamePrefix", "")
    descending = params.get("descending", False)
    names = logs.stream_names(scope, group, prefix)
    if params.get("orderBy") == "LastEventTime":
        if prefix:
            raise InvalidParameter("Cannot order by LastEventTime with a logStreamNamePrefix.")
        infos = [logs.stream(scope, group, name) for name in names]
        infos.sort(key=_by_last_event, reverse=descending)
        page, following = _list_page(infos, params, _by_last_event, descending)
    else:
        names.sort(reverse=descending)
        chosen, following = _list_page(names, params, lambda name: [name], descending)
        page = [logs.stream(scope, group, name) for name in chosen]
    arn = _group_arn(scope, group)
    return {"logStreams": [_stream_entry(arn, info) for info in page], **following}


def _get_log_events(logs: LogStore, call: Call) -> Mapping[str, Any]:
    """One page of a stream, forward or backward; at an end the token repeats itself."""
    params, scope, group = call.params, call.scope, _group(call)
    stream = params["logStreamName"]
    window: dict[str, Any] = {
        "since": params.get("startTime", 0),
        "until": params.get("endTime"),
        "limit": params.get("limit", PAGE_EVENTS),
    }
    token = params.get("nextToken")
    if token is None:
        if params.get("startFromHead", False):
            page = logs.forward(scope, group, stream, **window)
        else:
            page = logs.backward(scope, group, stream, **window)
    else:
        direction, offset = _event_position(token)
        if not logs.is_position(scope, group, stream, offset):
            raise InvalidParameter(BAD_TOKEN)
        turn = logs.forward if direction == "f" else logs.backward
        page = turn(scope, group, stream, offset=offset, **window)
    return {
        "events": [_event_members(event) for event in page.events],
        "nextForwardToken": _event_token("f", page.end),
        "nextBackwardToken": _event_token("b", page.start),
    }


def _filter_log_events(logs: LogStore, call: Call) -> Mapping[str, Any]:
    """Matching events of some or all streams of a group, the earliest first."""
    params, scope, group = call.params, call.scope, _group(call)
    until = params.get("endTime")
    after = _search_position(params.get("nextToken"))
    if after and not logs.is_position(scope, group, after.stream, after.end):
        raise InvalidParameter(BAD_TOKEN)
    page = search(
        logs,
        scope,
        group,
        _searched_streams(logs, scope, group, params),
        _pattern(params.get("filterPattern", "")),
        since=params.get("startTime", 0),
        # Unlike GetLogEvents, this one includes its endTime (API reference).
        until=None if until is None else until + 1,
        after=after,
        limit=params.get("limit", PAGE_EVENTS),
    )
    answer: dict[str, Any] = {
        "events": [_found_members(found) for found in page.found],
        "searchedLogStreams": [],
    }
    if page.next:
        answer["nextToken"] = _encode([page.next.timestamp, page.next.stream, page.next.end])
    return answer


def _group(call: Call) -> str:
    """The group by name, or by its identifier: a name or an ARN."""
    params = call.params
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if name and identifier:
        raise InvalidParameter("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
    if not (name or identifier):
        raise InvalidParameter("Either LogGroup name or LogGroup ARN must be provided.")
    found = str(name) if name else _name_in(call.scope, str(identifier))
    if found is None:
        raise ResourceNotFound(NO_GROUP)
    return found


def _name_in(scope: Scope, identifier: str) -> str | None:
    """The name of a group that is identified by it or by its ARN; None for one of others."""
    owner, _, name = identifier.rpartition(":log-group:")
    return name.removesuffix(":*") if owner in ("", _owner(scope)) else None


def _searched_streams(
    logs: LogStore, scope: Scope, group: str, params: Mapping[str, Any]
) -> Sequence[str]:
    names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
    if names and prefix:
        raise InvalidParameter(
            "logStreamNamePrefix and logStreamNames are mutually exclusive parameters."
        )
    if params.get("startFromHead") is False:
        raise InvalidParameter("startFromHead = false is not built in the emulator.")
    known = logs.stream_names(scope, group, prefix)
    if not names:
        return known
    if not set(names) <= set(known):
        raise ResourceNotFound("The specified log stream does not exist.")
    return sorted(set(names))


def _pattern(text: str) -> Callable[[str], bool]:
    try:
        return compile_pattern(text)
    except UnusablePattern as error:
        raise InvalidParameter(str(error)) from error


def _stream_entry(group_arn: str, info: StreamInfo) -> dict[str, Any]:
    entry = {
        "logStreamName": info.name,
        "creationTime": info.created,
        "firstEventTimestamp": info.first,
        "lastEventTimestamp": info.last,
        "lastIngestionTime": info.last,
        "arn": f"{group_arn}:log-stream:{info.name}",
        "storedBytes": 0,
    }
    return {member: value for member, value in entry.items() if value is not None}


def _event_members(event: LogEvent) -> dict[str, Any]:
    return {
        "timestamp": event.timestamp,
        "message": event.message,
        "ingestionTime": event.timestamp,
    }


def _found_members(found: Found) -> dict[str, Any]:
    event, stream = found.event, found.stream
    number = f"{event.timestamp:020d}{zlib.crc32(stream.encode()):012d}{event.start:024d}"
    return {"logStreamName": stream, **_event_members(event), "eventId": number}


def _owner(scope: Scope) -> str:
    return f"arn:{scope.partition}:logs:{scope.region}:{scope.account}"


def _group_arn(scope: Scope, group: str) -> str:
    return f"{_owner(scope)}:log-group:{group}"


def _by_last_event(info: StreamInfo) -> list[Any]:
    return [info.last or 0, info.name]


def _list_page(
    items: Sequence[_T],
    params: Mapping[str, Any],
    key: Callable[[_T], list[Any]],
    descending: bool = False,
) -> tuple[Sequence[_T], dict[str, str]]:
    """The next items of an ordered list, and the token's member when there are more."""
    token = params.get("nextToken")
    if token is not None:
        last = _decode(token)
        try:
            items = [
                item for item in items if (key(item) < last if descending else key(item) > last)
            ]
        except TypeError as error:
            raise InvalidParameter(BAD_TOKEN) from error
    page = items[: params.get("limit", LIST_LIMIT)]
    return page, {"nextToken": _encode(key(page[-1]))} if len(items) > len(page) else {}


def _event_token(direction: str, offset: int) -> str:
    return f"{direction}/{offset:018d}"


def _event_position(token: str) -> tuple[str, int]:
    match = _EVENT_TOKEN.fullmatch(token)
    if match is None:
        raise InvalidParameter(BAD_TOKEN)
    return match[1], int(match[2])


def _search_position(token: str | None) -> Position | None:
    if token is None:
        return None
    match _decode(token):
        case [int(timestamp), str(stream), int(end)]:
            return Position(timestamp, stream, end)
        case _:
            raise InvalidParameter(BAD_TOKEN)


def _encode(value: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _decode(token: str) -> list[Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error) as error:
        raise InvalidParameter(BAD_TOKEN) from error
    if not isinstance(value, list):
        raise InvalidParameter(BAD_TOKEN)
    return value
