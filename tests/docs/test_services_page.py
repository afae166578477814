"""docs/services.md shows a file that is valid, and names every option."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit.cli import up
from buildkit.declare.graph import load_graph
from buildkit.declare.parity_file import SORTS, load_allowances
from buildkit.declare.services_file import load_services, parse_services
from buildkit.declare.services_schema import EXEMPTION

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/services.md").read_text("utf-8")


def test_examples_are_valid(tmp_path: Path) -> None:
    example, parity = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    services = parse_services(example, stages=("runtime", "development"))
    assert [environment.name for environment in services.environments] == ["dev", "production"]
    (tmp_path / "stages/x").mkdir(parents=True)
    (tmp_path / "stages/x/parity.toml").write_text(parity)
    (allowance,) = load_allowances(tmp_path, "x")
    assert allowance.covers("package", "debugpy", "added")
    assert {sort for sort in SORTS if sort not in parity} == set()


def test_table_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        up.run(ROOT, ("--help",))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    of_the_build = {"--arg", "--cache-write", "--cache-read-only"}
    assert {option for option in options - of_the_build if f"`{option}" not in PAGE} == set()


def test_every_exception_is_explained() -> None:
    kinds = {kind.split(":")[0] for kind in EXEMPTION.split("|")}
    assert {kind for kind in kinds if f"`{kind}" not in PAGE} == set()


def test_services_of_this_repository_are_valid() -> None:
    services = load_services(ROOT, load_graph(ROOT).stages)
    assert {environment.name for environment in services.environments} == {"complete", "dev", "production"}
