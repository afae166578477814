"""docs/rollout.md shows a file that is valid, and names every command and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit.cli import rollout, scale
from buildkit.declare.condition import METRICS, parse_condition
from buildkit.declare.proxy_settings import PROXY
from buildkit.declare.rollout_schema import ROLLOUT, SCALE
from buildkit.declare.services_file import parse_services

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/rollout.md").read_text("utf-8")


def test_the_example_is_valid_and_has_every_key() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (service,) = parse_services(example, stages=("runtime", "proxy")).services
    assert service.rollout is not None
    assert service.rollout.ordered == ("2026-11-01", "2026-11-29")
    keys = {*PROXY.fields, *ROLLOUT.fields, *SCALE.fields}
    assert {key for key in keys if not re.search(rf"\b{key}\b", PAGE)} == set()


@pytest.mark.parametrize("command", [rollout, scale])
def test_every_option_is_explained(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.run(ROOT, ("--help",))  # type: ignore[attr-defined]
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {option for option in options if option not in PAGE} == set()


def test_every_metric_is_explained_and_examples_of_conditions_are_valid() -> None:
    assert {metric for metric in METRICS if f"`{metric}`" not in PAGE} == set()
    for text in re.findall(r"`((?:p95|error_rate) < [^`]+)`", PAGE):
        parse_condition(text)
