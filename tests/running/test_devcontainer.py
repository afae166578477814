"""devcontainer.json of a service, and the session that writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit.cli import devcontainer as session
from buildkit.declare.target import Target
from buildkit.errors import BuildError, DefinitionError
from buildkit.running.devcontainer import render_devcontainer
from tests.referencecopy import copy_reference
from tests.running.test_environment import made

ROOT = Path(__file__).parents[2]


def test_container_of_the_editor_stands_in_the_place_of_the_service() -> None:
    environment = made()
    written = json.loads(render_devcontainer(environment, "redis", Target(python="3.13", glibc="2.41", arch="x86_64")))
    container = environment.get("redis").container
    assert written["image"] == "localhost/x/redis:latest"
    assert written["initializeCommand"][-4:] == ["--", "production", "--except", "redis"]
    assert (written["remoteUser"], written["updateRemoteUserUID"]) == ("999:999", False)
    app = dict(environment.network.hosts)["app"]
    assert {
        "--userns=keep-id:uid=999,gid=999", "--cap-drop=all", "--security-opt=no-new-privileges",
        f"--network=x-production:ip={container.address},mac={container.mac}", f"--add-host=app:{app}",
        "--secret=x-production-token,target=token,uid=999,gid=999,mode=0400",
        "--volume=x-production-data:/var/lib/data:rw,nosuid,nodev,noexec",
    } <= set(written["runArgs"])  # fmt: skip
    assert written["forwardPorts"] == [5678]
    settings = written["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"] == "/opt/venv/bin/python"
    with pytest.raises(DefinitionError, match="no service `ap`"):
        render_devcontainer(environment, "ap", Target(python="3.13", glibc="2.41", arch="x86_64"))


def test_session_writes_the_file_and_checks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    folder = copy_reference(tmp_path / "project")
    with pytest.raises(BuildError, match=r"differs from services\.toml") as raised:
        session.run(folder, ("--check",))
    assert raised.value.hint == "nox -s devcontainer"
    assert session.run(folder, ()) == 0
    assert session.run(folder, ("--check",)) == 0
    assert session.run(folder, ("--print",)) == 0
    printed = capsys.readouterr().out.removeprefix("wrote .devcontainer/devcontainer.json\n")
    assert (folder / ".devcontainer/devcontainer.json").read_text("utf-8") == printed
