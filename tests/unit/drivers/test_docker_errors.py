from __future__ import annotations

import pytest
from docker.errors import APIError, ImageNotFound, NotFound

from emulator.drivers.docker.errors import job_error
from emulator.model.errors import CapacityError, ClientError, InternalServerError, JobError


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (ImageNotFound("", explanation="no such image: x"), ClientError, "Cannot pull algorithm"),
        (NotFound("", explanation="network x not found"), InternalServerError, "removed"),
        (
            APIError("", explanation='could not select device driver "nvidia" with capabilities'),
            CapacityError,
            "GPUs",
        ),
        (APIError("", explanation="unresolvable CDI devices x"), CapacityError, "GPUs"),
        (
            APIError("", explanation="could not find an available IPv4 address pool"),
            CapacityError,
            "network",
        ),
        (
            APIError("", explanation="all predefined address pools have been fully subnetted"),
            CapacityError,
            "network",
        ),
        (
            APIError("", explanation="bind source path does not exist: /x"),
            InternalServerError,
            "state directory",
        ),
        (ConnectionError("refused"), InternalServerError, "refused"),
        (ClientError("as it is"), ClientError, "as it is"),
    ],
)
def test_causes_in_the_services_terms(
    error: Exception, expected: type[JobError], text: str
) -> None:
    found = job_error(error)
    assert type(found) is expected
    assert text in str(found)
