"""A restart that podman does not finish, or whose port is taken, with a podman that does so."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import ToolError
from buildkit.tools.composed import restart


def put_podman(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    (folder / "podman").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_restart_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_podman(monkeypatch, tmp_path, "exec sleep 600")
    with pytest.raises(ToolError, match="restarting app was ended: nothing came or went"):
        restart("app", patience=0.4)


def test_port_that_stays_taken_is_said_with_what_frees_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_podman(monkeypatch, tmp_path, "echo 'bind: address already in use' >&2; exit 125")
    with pytest.raises(ToolError, match="restarting app failed with exit code 125") as caught:
        restart("app")
    assert caught.value.hint == "podman has not given back its port yet: podman rm --force app does"
    assert "address already in use" in caught.value.output


def test_other_failures_are_as_podman_says_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_podman(monkeypatch, tmp_path, "echo 'no such container' >&2; exit 125")
    with pytest.raises(ToolError) as caught:
        restart("app")
    assert (caught.value.hint, caught.value.output) == ("", "no such container")
