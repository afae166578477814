"""The simulated runner evaluates expressions as GitHub does, and rejects what it does not support."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ci.expressions import ExpressionError, evaluate, fill, is_true

CONTEXTS: dict[str, Any] = {
    "github": {"event_name": "push", "ref_type": "tag", "ref_name": "v1", "sha": "abc"},
    "needs": {"plan": {"outputs": {"matrix": '{"waves": [{"include": [{"stage": "a"}]}]}', "none": ""}}},
}


def compute(text: str) -> Any:
    return evaluate(text, CONTEXTS, {"failure": lambda: False})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("github.event_name == 'push'", True),
        ("github.event_name == 'PUSH'", True),
        ("github['sha'] != 'abc'", False),
        ("!failure() && github.event_name != 'pull_request'", True),
        ("github.ref_type == 'tag' && github.ref_name || github.sha", "v1"),
        ("github.ref_type == 'branch' && github.ref_name || github.sha", "abc"),
        ("fromJSON(needs.plan.outputs.matrix).waves[0] != null", True),
        ("fromJSON(needs.plan.outputs.matrix).waves[1] != null", False),
        ("fromJSON(needs.plan.outputs.matrix).waves[0].include[0].stage", "a"),
        ("toJSON(fromJSON('[1]'))", "[1]"),
        ("null == 0", True),
        ("'it''s'", "it's"),
        ("(1 == 2) || 1.5", 1.5),
        ("false && fromJSON(needs.plan.outputs.none) || 3", 3),
        ("true || github.nothing", True),
    ],
)
def test_supported_expression_is_evaluated(text: str, value: Any) -> None:
    assert compute(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "github.nothing",
        "needs.other.outputs.x",
        "secrets.TOKEN",
        "true || secrets.TOKEN",
        "hashFiles('x')",
        "false && hashFiles('x')",
        "github.sha github.sha",
        "(github.sha",
        "github.sha ==",
        "github.sha + 1",
        "fromJSON(needs.plan.outputs.matrix).waves.include",
    ],
)
def test_unsupported_expression_raises(text: str) -> None:
    with pytest.raises(ExpressionError):
        compute(text)


def test_expressions_fill_text_and_a_lone_expression_keeps_its_type() -> None:
    assert fill("a ${{ github.sha }} b ${{ 1 == 1 }}", CONTEXTS, {}) == "a abc b true"
    assert fill(" ${{ fromJSON(needs.plan.outputs.matrix).waves[0] }} ", CONTEXTS, {}) == {"include": [{"stage": "a"}]}
    with pytest.raises(ExpressionError, match="toJSON"):
        fill("x ${{ fromJSON(needs.plan.outputs.matrix) }}", CONTEXTS, {})


def test_empty_lists_and_objects_count_as_true() -> None:
    assert [is_true(value) for value in ([], {}, "", 0, None, "0")] == [True, True, False, False, False, True]
