"""Who may load models, as the script says that starts the server in the stage ``triton``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "stages/triton/server/start"


def start(folder: Path, secret: bytes | None) -> subprocess.CompletedProcess[str]:
    """Run the script with a server that prints its options."""
    (folder / "tritonserver").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / "tritonserver").chmod(0o755)
    (folder / "start").write_text(SCRIPT.read_text("utf-8").replace("/run/secrets/", f"{folder}/"), "utf-8")
    if secret is not None:
        (folder / "triton-admin").write_bytes(secret)
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(("bash", folder / "start"), env=env, capture_output=True, text=True, check=False)


def test_whoever_has_the_secret_may_load_models(tmp_path: Path) -> None:
    options = start(tmp_path, b"wo=rd\n").stdout.splitlines()
    assert "--model-control-mode=explicit" in options
    assert "--http-restricted-api=model-repository:triton-admin=wo=rd" in options


@pytest.mark.parametrize("secret", [None, b""])
def test_without_a_secret_nobody_may(tmp_path: Path, secret: bytes | None) -> None:
    options = start(tmp_path, secret).stdout.splitlines()
    assert "--model-control-mode=none" in options
    assert not [option for option in options if "triton-admin" in option]


@pytest.mark.parametrize("secret", [b"\n", b" \n", b"two words\n", b"two\nlines\n", b"\x1b[0m"])
def test_a_secret_that_is_no_word_starts_no_server(tmp_path: Path, secret: bytes) -> None:
    ended = start(tmp_path, secret)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "triton-admin holds no word" in ended.stderr
    assert "words" not in ended.stderr
