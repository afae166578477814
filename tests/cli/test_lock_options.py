"""Who may let build backends run on this host: the user by an option or a variable, never the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from buildkit.cli import lock
from buildkit.errors import DefinitionError
from buildkit.resolve.request import LockRequest

_TINY = Path(__file__).parents[1] / "e2e/tiny"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return shutil.copytree(_TINY, tmp_path / "project")


@pytest.mark.parametrize(
    ("arguments", "variable", "allowed"),
    [
        ((), None, False),
        (("--allow-host-builds",), None, True),
        ((), "1", True),
        ((), "0", False),
        ((), "", False),
        ((), "no", False),
    ],
)
def test_build_backends_on_the_host_are_allowed_by_option_or_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], variable: str | None, allowed: bool
) -> None:
    seen: list[LockRequest] = []
    monkeypatch.setattr(lock, "lock_all", lambda request, *_rest: seen.append(request) or ())
    monkeypatch.delenv("BUILDKIT_ALLOW_HOST_BUILDS", raising=False)
    if variable is not None:
        monkeypatch.setenv("BUILDKIT_ALLOW_HOST_BUILDS", variable)
    lock.run(project, arguments)
    (request,) = seen
    assert request.host_builds is allowed
    assert request.describe is None  # this project has no builder


def test_repository_cannot_allow_build_backends_on_the_host(project: Path) -> None:
    settings = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(f"{settings}\nallow-host-builds = true\n")
    with pytest.raises(DefinitionError, match="allow-host-builds"):
        lock.run(project, ("--check",))
