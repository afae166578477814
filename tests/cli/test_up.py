"""`up` of this project's services, as far as nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from buildkit.cli import rollout, scale, up
from buildkit.errors import DefinitionError
from tests.referencecopy import copy_reference

ROOT = Path(__file__).parents[2]
EMPTY = """
summary = "Nothing."
[config]
healthcheck = { test = ["check"] }
"""
ROLLOUT = """
[services.split]
stage = "runtime"
ports = ["8001"]
rollout = { split = { old = 90, new = 10 }, versions = { old = {}, new = { stage = "empty" } } }
[environments.split]
services = ["split"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BUILDKIT_LEDGER_KEY", str(tmp_path / "ledger.key"))
    return copy_reference(tmp_path / "project")


def test_printed_environment_lacks_an_excluded_service_and_waits_for_it_no_more(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up.run(project, ["complete", "--compose", "--except", "redis"])
    printed = YAML(typ="safe").load(capsys.readouterr().out)
    assert set(printed["services"]) == {"app", "postgres"}
    assert set(printed["services"]["app"]["depends_on"]) == {"postgres"}


def test_version_in_which_nothing_can_run_is_refused(project: Path) -> None:
    (project / "stages/empty").mkdir()
    (project / "stages/empty/stage.toml").write_text(EMPTY)
    with (project / "services.toml").open("a") as file:
        file.write(ROLLOUT)
    with pytest.raises(DefinitionError, match="nothing can run in it"):
        up.run(project, ["split", "--print"])


def test_environment_to_name_is_said_as_the_session_takes_it(project: Path) -> None:
    names = "one of complete, dev, production"
    for session, words, hint in (
        (up, (), f"name {names}"),
        (rollout, ("status",), f"--environment names {names}"),
        (scale, ("app",), f"--environment names {names}"),
    ):
        with pytest.raises(DefinitionError, match="which environment") as raised:
            session.run(project, words)
        assert raised.value.hint == hint


def test_rollout_of_an_environment_without_one_says_where_to_write_it(project: Path) -> None:
    with pytest.raises(DefinitionError, match="no service of production has `rollout`") as raised:
        rollout.run(project, ("status", "--environment", "production"))
    assert raised.value.hint == "add [services.NAME.rollout]; docs/rollout.md shows it"
