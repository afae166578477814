"""Secrets in files of the repository: wherever there is an address or a variable, with what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.declare.project import parse_project
from buildkit.declare.stage_file import parse_stage
from buildkit.declare.written_secrets import find_secret, has_login, hide_logins
from buildkit.errors import DefinitionError
from buildkit.locks.input_lines import find_input_problems
from buildkit.locks.models_lock import parse_models_file

ROOT = 'summary = "s"\n[root]\nsuite = "trixie"\npackages = "p.txt"\n'
SOURCE = '[[root.source]]\nsuite = "/"\nkey = "k.asc"\nuri = "{}"\n'
URL = "https://me:hunter22@example.org/x"
STAGES = {
    "archive": (SOURCE.format(URL), "root.source[0].uri", "mirror or proxy"),
    "archive with a token": (SOURCE.format("https://hunter22@example.org/x"), "root.source[0].uri", "mirror or proxy"),
    "script": (f'[[run]]\nscript = "pip install -i {URL} x"\n', "run[0].script", "docs/supply-chain.md#secrets"),
    "command": (f'[[run]]\ncommand = ["curl", "{URL}"]\n', "run[0].command[1]", "docs/supply-chain.md#secrets"),
    "variable of a step": (f'[[run]]\nscript = "x"\nenv.HF_ENDPOINT = "{URL}"\n', "run[0].env.HF_ENDPOINT", "never"),
    "token of a step": ('[[run]]\nscript = "x"\nenv.HF_TOKEN = "hunter22"\n', "run[0].env.HF_TOKEN", "never"),
    "variable": (
        f'[config]\nenv.OTEL_EXPORTER_OTLP_ENDPOINT = "{URL}"\n',
        "config.env.OTEL_EXPORTER_OTLP_ENDPOINT",
        "s",
    ),
    "token": ('[config]\nenv.WANDB_API_KEY = "hunter22"\n', "config.env.WANDB_API_KEY", "never written down"),
    "header": (
        '[config]\nenv.OTEL_EXPORTER_OTLP_HEADERS = "a=b,Authorization=Basic hunter22"\n',
        "config.env.OTEL_EXPORTER_OTLP_HEADERS",
        "never written down",
    ),
    "label": (f'[config]\nlabels.source = "{URL}"\n', "config.labels.source", "never written down"),
    "argument": (f'[args]\nINDEX = "{URL}"\n', "args.INDEX", "never written down"),
}


@pytest.mark.parametrize(("more", "key", "hint"), STAGES.values(), ids=STAGES)
def test_a_secret_in_a_stage_file_is_an_error_that_does_not_show_it(more: str, key: str, hint: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_stage(ROOT + more, name="s", file="s.toml")
    (problem,) = (one for one in caught.value.problems if one.key == key)
    assert hint in problem.hint
    assert "hunter22" not in str(caught.value)


def test_a_secret_among_arguments_of_a_containerfile_is_an_error() -> None:
    text = 'summary = "s"\n[root]\ncontainerfile = "c"\nargs.GIT_TOKEN = "hunter22"\n'
    with pytest.raises(DefinitionError, match="looks like a secret"):
        parse_stage(text, name="s", file="s.toml")


@pytest.mark.parametrize("key", ["cache", "cache-write"])
@pytest.mark.parametrize("value", [URL, "me:hunter22@registry.example/x"])
def test_a_login_of_a_registry_is_an_error(key: str, value: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_project(f'[project]\nname = "p"\nversion = "1"\n[tool.buildkit]\n{key} = "{value}"\n', Path("/p"))
    (problem,) = caught.value.problems
    assert problem.key == f"tool.buildkit.{key}"
    assert "skopeo login" in problem.hint
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "127.0.0.1:5000/cache", "registry.example/x:tag"])
def test_a_registry_without_a_login_is_none(value: str) -> None:
    text = f'[project]\nname = "p"\nversion = "1"\n[tool.buildkit]\ncache = "{value}"\n'
    assert parse_project(text, Path("/p")).cache == value


def test_a_login_of_a_models_source_is_an_error() -> None:
    text = f'[[model]]\nname = "m"\nsource = "{URL}"\nfiles = ["x"]\n'
    with pytest.raises(DefinitionError) as caught:
        parse_models_file(text, "models.toml")
    assert [one.hint for one in caught.value.problems if one.key.endswith("source")] == ["put them into netrc"]
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        f"--index-url {URL}",
        f"-i{URL}",
        "--find-links=https://hunter22@example.org/x",
        f"x @ {URL}.whl",
        f"x @ git+{URL}",
        "git+https://hunter22@example.org/x",
    ],
)
def test_a_login_of_an_input_is_never_shown(line: str) -> None:
    (problem,) = find_input_problems("r.in", lambda file: line if file == "r.in" else None)
    assert "hunter22" not in f"{problem.what} {problem.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org:8080/a@b",
        "ssh://git@example.org/x",
        "git+ssh://git@example.org:22/x",
        "postgresql://me@db:5432/x",
        'curl "https://me:$(cat /run/secrets/token)@example.org"',
        "https://me:$TOKEN@example.org",
        "https://me:${TOKEN}@example.org",
        '{"a": "http://x:80", "b": "me@example.org"}',
    ],
)
def test_addresses_without_a_password_are_none(text: str) -> None:
    assert not has_login(text)


@pytest.mark.parametrize("value", ["", "false", "/run/secrets/token", "${RELEASE}"])
def test_variables_that_hold_no_value_of_their_own_are_none(value: str) -> None:
    assert find_secret("API_KEY", value) == ""


@pytest.mark.parametrize("text", ["x=https://:p@h", "a://u:p@h", "https://u:${X}y@h"])
def test_a_password_of_any_user_and_scheme_is_one(text: str) -> None:
    assert has_login(text)
    assert hide_logins(f"{text}/p@q").endswith("://h/p@q")
