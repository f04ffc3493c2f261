"""Filter patterns for JSON: the user guide's rules, one by one."""

from __future__ import annotations

import json

import pytest

from emulator.telemetry.logs.patterns import UnusablePattern, compile_pattern

EVENT = json.dumps(
    {
        "kind": "step",
        "loss": 0.25,
        "step": 400,
        "code": "400",
        "host": "algo-1",
        "big-name_2": "x",
        "nothing": None,
        "best": True,
        "worse": False,
        "tags": ["first", "another one"],
        "epochs": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
        "grid": [[0, 1, 2], [4, 5, 6]],
        "quote": 'say "hi"',
        "middle": "Ev*ent",
        "tiny": 1e-7,
    }
)


@pytest.mark.parametrize(
    "condition",
    [
        "$.loss < 1",
        "$.loss<=.25",
        "$.loss > +1e-1",
        "$.loss >= 25e-2",
        "$.tiny < 1e-6",
        "$.step = 400",
        "$.step = 400.0",
        "$.step != 500",
        "$.step = 4*",
        "$.code = 400",
        '$.kind = "step"',
        "$.kind = step",
        "$.kind != stop",
        "$.kind = st*",
        '$.kind = "*ep"',
        "$.kind = *te*",
        "$.kind = *",
        "$.loss = *",
        "$.host != 123.123.*",
        "$.big-name_2 = x",
        '$.middle = "Ev*ent"',
        '$.quote = "say \\"hi\\""',
        '$.tags[1] = "another one"',
        "$.epochs[1].id = 2",
        "$.grid[1][2] = 6",
        "$.nothing IS NULL",
        "$.best IS TRUE",
        "$.worse is false",
        "$.other NOT EXISTS",
        "$.epochs[2] NOT EXISTS",
        "($.step = 400) && ($.epochs[0].name = a)",
        "$.step = 400 || $.kind = no && $.kind = no",
        "(($.step = 1 || $.step = 400))&&$.best IS TRUE",
    ],
)
def test_what_is_found(condition: str) -> None:
    assert compile_pattern(f"{{{condition}}}")(EVENT)
    assert compile_pattern(f" {{ {condition} }} ")(f"  {EVENT}\n")


@pytest.mark.parametrize(
    "condition",
    [
        "$.loss > 1",
        "$.step = 4",
        "$.kind = Step",
        "$.kind = t*",
        '$.kind = "s*p"',
        "$.code > 1",  # a text has no order
        "$.best = 1",
        "$.tags = first",
        "$.tags != 1",
        "$.epochs[0] != 1",
        "$.other = *",
        "$.other != x",
        "$.kind[0] = s",
        "$.nothing = *",
        "$.loss IS NULL",
        "$.best IS FALSE",
        "$.step IS TRUE",
        "$.nothing NOT EXISTS",
        "($.step = 400 || $.kind = no) && $.kind = no",
        "($.step = 2 && $.epochs[0].name = a) || $.tags[1] = first",
    ],
)
def test_what_is_not_found(condition: str) -> None:
    assert not compile_pattern(f"{{ {condition} }}")(EVENT)


@pytest.mark.parametrize("message", ["", "step 400", "[400]", '{"step": 400', '"step"', "{" * 9000])
def test_other_messages_are_never_found(message: str) -> None:
    assert not compile_pattern("{ $.step NOT EXISTS }")(message)


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "$.a",
        "$.a =",
        "a = 1",
        "$ = 1",
        "$.a[x] = 1",
        "$.a = 1 &&",
        "$.a = 1 $.b = 2",
        "($.a = 1",
        "$.a = 1)",
        "$.a < b",
        '$.a > "1"',
        "$.a IS MAYBE",
        "$.a NOT THERE",
        "$.a = 1, $.b = 2",
        '$.a = "open',
        '"$.a" = 1',
    ],
)
def test_what_is_no_pattern(condition: str) -> None:
    with pytest.raises(UnusablePattern, match="Invalid filter pattern"):
        compile_pattern(f"{{ {condition} }}")


def test_regular_expressions_are_not_built() -> None:
    with pytest.raises(UnusablePattern, match="Regular expressions"):
        compile_pattern("{ $.kind = %s.*p% }")
