"""Secrets of steps without containers: their sources, redaction of output, and refusal of layers that contain them."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from buildkit.build.step_secrets import SecretKeptError, Secrets, find_secrets
from buildkit.errors import BuildError

VALUE = b"correct horse battery"


def test_secrets_are_read_from_environment_or_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"from a file\n")
    places = {"other": "env:ELSEWHERE", "filed": f"file:{tmp_path}/token"}
    env = {"HF_TOKEN": "a", "ELSEWHERE": "b"}
    found = find_secrets("app/x", ("hf-token", "other", "filed"), places, env)
    with found.laid_out() as folder:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            "hf-token": b"a",
            "other": b"b",
            "filed": b"from a file\n",
        }
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o400}
        assert folder.is_relative_to("/dev/shm")
    assert not folder.exists()
    assert "from a file" not in repr(found)


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ({}, "the environment variable TOKEN is not set"),
        ({"token": "file:/no/such/file"}, "cannot be read from /no/such/file"),
        ({"token": "file:/dev/null"}, "is empty"),
        ({"token": "file:/dev/zero"}, "is too large"),
    ],
)
def test_error_names_a_missing_secret(places: dict[str, str], why: str) -> None:
    with pytest.raises(BuildError, match="app/x: its secret `token`") as caught:
        find_secrets("app/x", ("token",), places, {})
    assert why in caught.value.message


def test_output_is_redacted() -> None:
    secrets = Secrets({"a": VALUE + b"\n", "b": b"line one\nline two\n", "short": b"ab"})
    encoded = base64.b64encode(VALUE).decode()
    output = f"battery; curl: https://me:{VALUE.decode()}@host/ab {encoded} line two"
    assert secrets.hide(output) == "[secret]; curl: https://me:[secret]@host/ab [secret] [secret]"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_layer_with_a_secret_is_refused_wherever_chunks_end(size: int) -> None:
    for tar in (b"x" * 500 + VALUE + b"y" * 500, b"x" * 500 + base64.b64encode(VALUE)):
        see = Secrets({"token": VALUE + b"\n"}).watch("app/x")
        with pytest.raises(SecretKeptError, match=r"app/x: .*\(token\)"):
            list(map(see, (tar[at : at + size] for at in range(0, len(tar), size))))
    see = Secrets({"token": VALUE, "short": b"x"}).watch("app/x")
    for part in (b"x" * 100, VALUE[:10], b"-", VALUE[10:]):
        see(part)


def test_secret_folders_of_killed_builds_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.build.step_secrets._MEMORY", tmp_path)  # concurrent builds sweep the real folder
    left = tmp_path / f"buildkit-secrets-{os.geteuid()}-left-by-a-test"
    left.mkdir(0o700)
    (left / "token").write_bytes(VALUE)
    with Secrets({"token": b"x"}).laid_out() as held:
        assert not left.exists()
        with Secrets({"token": b"y"}).laid_out():
            assert (held / "token").read_bytes() == b"x"  # a living build's stays
