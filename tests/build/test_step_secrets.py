"""Secrets of steps without containers: their sources, redaction of output, and refusal of layers that contain them."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from buildkit.build.secret_sources import SecretSources
from buildkit.build.step_secrets import SecretKeptError, Secrets, get_secrets
from buildkit.errors import BuildError, DefinitionError

VALUE = b"correct horse battery"


def sources(tmp_path: Path, env: dict[str, str], **given: str) -> SecretSources:
    return SecretSources(folder=tmp_path / "project", given=given, env={"HOME": str(tmp_path), **env})


def configure(tmp_path: Path, text: str) -> Path:
    path = tmp_path / ".config/xoe-buildkit/secrets.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_secrets_are_read_from_environment_or_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"from a file\n")
    env = {"BUILDKIT_SECRET_HF_TOKEN": "a", "ELSEWHERE": "b"}
    known = sources(tmp_path, env, other="env:ELSEWHERE", filed=f"file:{tmp_path}/token")
    found = get_secrets("app/x", ("hf-token", "other", "filed"), known)
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
    ("given", "why"),
    [
        ({}, "is missing"),
        ({"token": "env:TOKEN"}, "the environment variable TOKEN is not set"),
        ({"token": "file:/no/such/file"}, "cannot be read from /no/such/file"),
        ({"token": "file:/dev/null"}, "is empty"),
        ({"token": "file:/dev/zero"}, "is too large"),
    ],
)
def test_error_names_a_missing_secret(given: dict[str, str], why: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="app/x: its secret `token`") as caught:
        get_secrets("app/x", ("token",), sources(tmp_path, {}, **given))
    assert why in caught.value.message


# 4.22: the repository names no file and no variable


@pytest.mark.parametrize("name", ["home", "path", "aws-secret-access-key", "token"])
def test_secret_is_never_the_variable_of_its_name(name: str, tmp_path: Path) -> None:
    env = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "key", "TOKEN": "word", "BUILDKIT_SECRET_": "x"}
    with pytest.raises(BuildError, match=f"app/x: its secret `{name}` is missing") as caught:
        get_secrets("app/x", (name,), sources(tmp_path, env))
    variable = f"BUILDKIT_SECRET_{name.upper().replace('-', '_')}"
    config = tmp_path / ".config/xoe-buildkit/secrets.toml"
    assert (
        caught.value.hint == f"give it: --secret id={name},src=FILE, or set {variable}, or name its source in {config}"
    )


def test_options_come_before_variables_and_those_before_the_configuration(tmp_path: Path) -> None:
    configure(tmp_path, f'["{tmp_path}/project"]\na = "env:A"\nb = "env:B"\nc = "env:C"\n')
    known = sources(tmp_path, {"BUILDKIT_SECRET_A": "1", "BUILDKIT_SECRET_B": "2"}, a="file:/given")
    assert [known.get("x", name) for name in "abc"] == ["file:/given", "env:BUILDKIT_SECRET_B", "env:C"]


def test_configuration_holds_for_its_repository_alone(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to("project")
    configure(tmp_path, f'["{tmp_path}/other"]\ntoken = "env:A"\n["{tmp_path}/link"]\nmine = "file:~/token"\n')
    (tmp_path / "token").write_bytes(b"word")
    known = sources(tmp_path, {})
    assert known.get("x", "mine") == "file:~/token"
    with pytest.raises(BuildError, match="its secret `token` is missing"):
        known.get("x", "token")
    moved = SecretSources(folder=tmp_path / "project", given={}, env={"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")})
    with pytest.raises(BuildError, match="its secret `mine` is missing"):
        moved.get("x", "mine")


def test_configuration_in_the_repository_is_refused(tmp_path: Path) -> None:
    path = configure(tmp_path / "project", '["/x"]\n')
    (tmp_path / "link").symlink_to(path.parents[1])
    for home in (path.parents[1], tmp_path / "link"):
        with pytest.raises(DefinitionError, match="is in the repository, which must not say where secrets are"):
            sources(tmp_path, {"XDG_CONFIG_HOME": str(home)}).get("x", "token")


@pytest.mark.parametrize("how", ["owner", "others", "group"])
def test_configuration_that_another_user_may_write_is_refused(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = configure(tmp_path, f'["{tmp_path}/project"]\ntoken = "env:A"\n')
    path.chmod(0o644)
    assert sources(tmp_path, {}).get("x", "token") == "env:A"
    if how == "owner":
        monkeypatch.setattr("buildkit.build.secret_sources.trusted_users", lambda: frozenset({os.geteuid() + 1}))
        who, mend = f"user {os.geteuid()} owns it", "chown"
    elif how == "others":
        path.chmod(0o646)
        who, mend = "every user may write to it", "chmod o-w"
    else:
        path.chmod(0o664)
        monkeypatch.setattr("buildkit.store.private_folder._is_private_group", lambda *_: False)
        who, mend = "group .* may write to it", "chmod g-w"
    with pytest.raises(BuildError, match=who) as caught:
        sources(tmp_path, {}).get("x", "token")
    assert f"{mend} " in caught.value.hint
    assert str(path) in caught.value.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", "is not a usable name"),
        ('["relative"]\ntoken = "env:A"', "is not a usable name"),
        ('["/a"]\ntoken = "command:cat x"', "is not env:NAME, or file: with an absolute path"),
        ('["/a"]\ntoken = "file:relative"', "is not env:NAME, or file: with an absolute path"),
        ("[", "secrets.toml"),
    ],
)
def test_wrong_configuration_is_an_error(text: str, why: str, tmp_path: Path) -> None:
    configure(tmp_path, text)
    with pytest.raises(DefinitionError) as caught:
        sources(tmp_path, {}).get("x", "token")
    assert why in str(caught.value)


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
