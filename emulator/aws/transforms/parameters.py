"""How a container wants to be asked: GET /execution-parameters.

It is optional (developer guide, "Use Your Own Inference Code with Batch Transform").
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from emulator.workloads.serving.ping import answer_of

_LONGEST = 1 << 20
_STRATEGIES = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}


def execution_parameters(dial: Callable[[], socket.socket]) -> dict[str, Any]:
    """What the container says, as members of CreateTransformJob; empty if it does not say."""
    with (
        suppress(OSError, HTTPException, ValueError),
        answer_of(dial, "/execution-parameters") as answer,
    ):
        said = json.loads(answer.read(_LONGEST)) if answer.status == HTTPStatus.OK else None
        if isinstance(said, dict):
            return read_parameters(said)
    return {}


def read_parameters(said: Mapping[str, Any]) -> dict[str, Any]:
    """The members that can be used (pure)."""
    found: dict[str, Any] = {}
    if said.get("BatchStrategy") in _STRATEGIES:
        found["BatchStrategy"] = _STRATEGIES[said["BatchStrategy"]]
    for name, least in (("MaxPayloadInMB", 0), ("MaxConcurrentTransforms", 1)):
        value = said.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            found[name] = value
    return found
