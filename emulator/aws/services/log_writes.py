"""CloudWatch Logs: what scripts write, and the groups and streams they make for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from emulator.aws.operation import Call, Operations
from emulator.aws.services.logs import InvalidParameter
from emulator.telemetry.logs import groups
from emulator.telemetry.logs.streams import LogStore

EVENT_OVERHEAD = 26
"""Bytes that count for an event beside its message (API reference)."""
BATCH_BYTES = 1_048_576
BATCH_MILLISECONDS = 24 * 3600 * 1000
_RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557),
    *(2922, 3288, 3653),
)
"""Days that a group can be kept (API reference)."""
_FUTURE = 2 * 3600 * 1000
_PAST = 14 * 24 * 3600 * 1000


def operations(logs: LogStore, clock: Callable[[], float] = time.time) -> Operations:
    """The operations by name; `clock` gives epoch seconds."""
    appending = Lock()

    def create_log_group(call: Call) -> None:
        name = call.params["logGroupName"]
        groups.create_group(logs, call.scope, name)

    def create_log_stream(call: Call) -> None:
        params = call.params
        groups.create_stream(logs, call.scope, params["logGroupName"], params["logStreamName"])

    def put_log_events(call: Call) -> dict[str, Any]:
        params = call.params
        group, stream = params["logGroupName"], params["logStreamName"]
        logs.require(call.scope, group, stream)
        events = params["logEvents"]
        _check_batch(events)
        accepted, rejected = _sorted_out(events, clock() * 1000)
        with appending:  # a stream has one writer at a time
            writer = logs.writer(call.scope, group, stream)
            try:
                for event in accepted:
                    writer.write(event["message"], event["timestamp"])
            finally:
                writer.close()
        # Sequence tokens are no longer looked at, but old clients hand them on (API reference).
        return {"nextSequenceToken": "0", "rejectedLogEventsInfo": rejected or None}

    def delete_log_group(call: Call) -> None:
        groups.delete_group(logs, call.scope, call.params["logGroupName"])

    def delete_log_stream(call: Call) -> None:
        params = call.params
        groups.delete_stream(logs, call.scope, params["logGroupName"], params["logStreamName"])

    def put_retention_policy(call: Call) -> None:
        params = call.params
        days = params["retentionInDays"]
        if days not in _RETENTIONS:
            raise InvalidParameter(
                f"The retention {days} is not possible: retentionInDays must be one of "
                f"{', '.join(map(str, _RETENTIONS))}."
            )
        groups.set_retention(logs, call.scope, params["logGroupName"], days)

    def delete_retention_policy(call: Call) -> None:
        groups.set_retention(logs, call.scope, call.params["logGroupName"], None)

    return {
        "CreateLogGroup": create_log_group,
        "CreateLogStream": create_log_stream,
        "PutLogEvents": put_log_events,
        "DeleteLogGroup": delete_log_group,
        "DeleteLogStream": delete_log_stream,
        "PutRetentionPolicy": put_retention_policy,
        "DeleteRetentionPolicy": delete_retention_policy,
    }


def _check_batch(events: Sequence[Mapping[str, Any]]) -> None:
    """Raise InvalidParameter for a batch that the service does not take (API reference)."""
    times = [event["timestamp"] for event in events]
    if times != sorted(times):
        raise InvalidParameter(
            "Log events in a single PutLogEvents request must be in chronological order."
        )
    if times[-1] - times[0] > BATCH_MILLISECONDS:
        raise InvalidParameter(
            "The batch of log events in a single PutLogEvents request cannot span more than "
            "24 hours."
        )
    size = sum(len(event["message"].encode("utf-8", "replace")) for event in events)
    size += EVENT_OVERHEAD * len(events)
    if size > BATCH_BYTES:
        raise InvalidParameter(f"Upload too large: {size} bytes exceeds limit of {BATCH_BYTES}")


def _sorted_out(
    events: Sequence[Mapping[str, Any]], now: float
) -> tuple[Sequence[Mapping[str, Any]], dict[str, int]]:
    """The events of a time that is accepted, and where the others are (API reference)."""
    old = sum(event["timestamp"] < now - _PAST for event in events)
    new = sum(event["timestamp"] > now + _FUTURE for event in events)
    rejected = {}
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if new:
        rejected["tooNewLogEventStartIndex"] = len(events) - new
    return events[old : len(events) - new], rejected
