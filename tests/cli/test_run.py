"""The session ``run-STAGE``: which options and settings reach the start of the container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from buildkit.cli import run as session
from buildkit.errors import BuildError
from buildkit.inspection import start_container as starting
from buildkit.running.host import PodmanHost
from buildkit.running.seccomp import PROFILE

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("stage", "option", "strict"),
    [
        ("hardened", (), True),
        ("hardened", ("--no-strict",), False),
        ("runtime", (), False),
        ("runtime", ("--strict",), True),
    ],
)
def test_stage_says_whether_a_lacking_host_is_an_error_unless_an_option_does(
    stage: str, option: tuple[str, ...], strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(session, "start_container", lambda _container, **given: started.append(given) or 0)
    monkeypatch.setattr(session.podman, "find_image_config", lambda _ref: {})
    assert session.run(ROOT, stage, ("--no-build", *option)) == 0
    assert [given["strict"] for given in started] == [strict]


def test_seccomp_prints_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert session.run(ROOT, "hardened", ("--seccomp",)) == 0
    assert capsys.readouterr().out == PROFILE.read_text("utf-8")


def test_a_strict_container_is_not_started_on_a_host_that_lacks_a_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.running.test_container import PLAIN

    monkeypatch.setattr(starting.podman, "start_detached", lambda _argv: pytest.fail("it was started"))
    monkeypatch.setattr("buildkit.tools.podman.probe_host", lambda: PodmanHost(controllers=("pids",)))
    with pytest.raises(BuildError, match="as strictly as it should") as raised:
        starting.start_container(PLAIN, detach=True, strict=True)
    assert "--no-strict" in raised.value.hint
    assert "--memory=1g cannot be applied" in capsys.readouterr().err
