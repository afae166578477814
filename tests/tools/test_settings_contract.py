"""Contract: the index settings that buildkit reads are those that the installed pip and uv use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from buildkit.tools.index_settings import load_pip_settings, load_uv_settings
from buildkit.tools.installer_files import pip_config_files

PIP_OPTIONS = """
import json, os
from pip._internal.commands import create_command
options = create_command("install").parse_args([])[0]
print(json.dumps({
    "index": options.index_url, "extra": options.extra_index_urls, "find_links": options.find_links,
    "trusted_hosts": options.trusted_hosts, "cert": options.cert or "", "client_cert": options.client_cert or "",
    "proxy": options.proxy, "timeout": options.timeout, "no_index": bool(options.no_index),
}))
"""
PIP_DEFAULTS = {"index": "https://pypi.org/simple", "timeout": 15}
ALL_OF_PIP = """
index-url = https://main.example/simple
extra-index-url =
    https://a.example/s
    https://b.example/s
find-links = /links/a
    https://c.example/links
trusted-host = a.example b.example:8080
cert = /etc/ca.pem
client-cert = /etc/me.pem
proxy = http://proxy.example:3128
timeout = 33
no-index = on
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without settings of this host; /etc stays, and both sides read it."""
    (tmp_path / "home/.config/pip").mkdir(parents=True)
    (tmp_path / "home/.config/uv").mkdir(parents=True)
    (tmp_path / "home/.pip").mkdir()
    (tmp_path / "xdg/pip").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path / "root")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def pip(env: dict[str, str], *argv: str) -> str:
    return subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True, check=True).stdout


def check_pip(env: dict[str, str]) -> None:
    """Compare every setting with what pip's own option parser makes of files and variables."""
    theirs = json.loads(pip(env, "-c", PIP_OPTIONS))
    settings = load_pip_settings(env)
    for name, value in theirs.items():
        ours = getattr(settings, name) or PIP_DEFAULTS.get(name, getattr(settings, name))
        unset = "" if value is None else value  # newer pips have None for an option that is not set
        assert (list(ours) if isinstance(ours, tuple) else ours) == unset, name


@pytest.mark.parametrize("section", ["global", "install"])
@pytest.mark.parametrize("file", ["xdg/pip/pip.conf", "home/.pip/pip.conf", "home/.config/pip/pip.conf"])
def test_pip_files_give_the_settings_that_pip_uses(env, tmp_path, file, section):
    (tmp_path / file).write_text(f"[{section}]{ALL_OF_PIP}")
    check_pip(env)
    settings = load_pip_settings(env)
    assert (settings.index, settings.timeout, settings.no_index) == ("https://main.example/simple", 33, True)


def test_pip_variables_give_the_settings_that_pip_uses(env):
    env |= {
        "PIP_INDEX_URL": "https://main.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://a.example/s https://b.example/s",
        "PIP_FIND_LINKS": "/links/a https://c.example/links",
        "PIP_TRUSTED_HOST": "a.example b.example:8080",
        "PIP_CERT": "/etc/ca.pem",
        "PIP_CLIENT_CERT": "/etc/me.pem",
        "PIP_PROXY": "http://proxy.example:3128",
        "PIP_DEFAULT_TIMEOUT": "33",
        "PIP_NO_INDEX": "yes",
    }
    check_pip(env)
    assert load_pip_settings(env).timeout == 33
    check_pip({**env, "PIP_NO_INDEX": "off", "PIP_PROXY": "", "PIP_CERT": ""})


@pytest.mark.parametrize(
    ("system", "user", "named"),
    [
        ("[global]\nindex-url = https://system/s\n", "[global]\nindex-url = https://user/s\n", None),
        ("[install]\nindex-url = https://system/s\n", "[global]\nindex-url = https://user/s\n", None),
        ("[global]\nindex-url = https://system/s\n", "[install]\nindex-url =\n", None),
        ("[global]\nindex-url = https://system/s\n", "[global]\nindex-url =\n", None),
        ("[global]\nindex_url = https://system/s\n", "[global]\nextra_index_url = https://user/s\n", None),
        ("[global]\nindex-url = https://system/s\n", "[global]\nindex-url = https://user/s\n", "[global]\ncert = /x\n"),
        ("[download]\nindex-url = https://system/s\n", "[list]\nindex-url = https://user/s\n", None),
    ],
)
def test_pip_files_override_each_other_as_in_pip(env, tmp_path, system, user, named):
    (tmp_path / "xdg/pip/pip.conf").write_text(system)
    (tmp_path / "home/.config/pip/pip.conf").write_text(user)
    if named is not None:
        (tmp_path / "named.conf").write_text(named)
        env["PIP_CONFIG_FILE"] = str(tmp_path / "named.conf")
    check_pip(env)
    check_pip({**env, "PIP_INDEX_URL": "https://variable/s"})
    check_pip({**env, "PIP_CONFIG_FILE": os.devnull})


def test_pip_config_list_names_each_value_that_is_read(env, tmp_path):
    (tmp_path / "home/.config/pip/pip.conf").write_text(f"[global]{ALL_OF_PIP}")
    listed = pip({**env, "PIP_CERT": "/variable.pem"}, "-m", "pip", "config", "list")
    values = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    settings = load_pip_settings({**env, "PIP_CERT": "/variable.pem"})
    assert values["index-url"] == settings.index
    assert values["extra-index-url"].replace("\\n", " ").split() == list(settings.extra)
    assert values["find-links"].replace("\\n", " ").split() == list(settings.find_links)
    assert values["trusted-host"].split() == list(settings.trusted_hosts)
    assert (values["client-cert"], values["proxy"]) == (settings.client_cert, settings.proxy)
    assert (float(values["timeout"]), values["no-index"]) == (settings.timeout, "on")
    assert settings.cert == "/variable.pem"


@pytest.mark.parametrize("named", ["", "exists", "missing", os.devnull])
def test_pip_config_debug_names_the_files_that_are_read(env, tmp_path, named):
    if named:
        env["PIP_CONFIG_FILE"] = named if named == os.devnull else str(tmp_path / named)
    if named == "exists":
        (tmp_path / "exists").write_text("")
    listed = pip(env, "-m", "pip", "config", "debug")
    groups = dict(re.findall(r"^(global|site|user|env):\n((?:  .*\n?)*)", listed, re.MULTILINE))
    files = {kind: re.findall(r"^  (.+), exists: ", text, re.MULTILINE) for kind, text in groups.items()}
    weakest_first = [*files["global"], *files.get("user", ()), *files["site"], *files.get("env", ())]
    ours = [str(path) for path in pip_config_files(env)]
    assert ours == (
        [] if named == os.devnull else [file for file in weakest_first if not is_skipped(file, named, files)]
    )


def is_skipped(file: str, named: str, files: dict[str, list[str]]) -> bool:
    """pip lists the user's files even where a named one takes their place."""
    return named == "exists" and file in files.get("user", ())


def uv_settings(env: dict[str, str]) -> dict[str, object]:
    """Return the settings that uv reports."""
    Path("a.in").write_text("idna\n")
    argv = [sys.executable, "-m", "uv", "pip", "compile", "--show-settings", "a.in"]
    text = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    hosts = text.partition("allow_insecure_host: [")[2].partition("\n        ],")[0]
    locations = text.partition("index_locations: IndexLocations {")[2].partition("\n        },\n")[0]
    indexes = [read_index(block) for block in locations.split(" Index {")[1:]]
    strategy = re.search(r"index_strategy: (\w+)", text)
    no_index = re.search(r"no_index: (\w+)", locations)
    assert strategy is not None
    assert no_index is not None
    return {
        "default": next((url for url, default, flat in indexes if default and not flat), ""),
        "extra": [url for url, default, flat in indexes if not default and not flat],
        "links": {url for url, _, flat in indexes if flat},
        "hosts": re.findall(r'host: "([^"]+)"', hosts),
        "no_index": no_index[1] == "true",
        "strategy": re.sub(r"(?<=\w)([A-Z])", r"-\1", strategy[1]).lower(),
    }


def read_index(block: str) -> tuple[str, bool, bool]:
    """URL without credentials (the path of a local one), whether it is the default, and whether it is flat."""
    scheme, path = re.search(r'scheme: "(\w+)"', block), re.search(r'path: "([^"]*)"', block)
    host = re.search(r'Domain\(\s*"([^"]+)"', block)
    assert scheme is not None
    assert path is not None
    url = f"{scheme[1]}://{host[1]}{path[1]}" if host else path[1]
    return url, "default: true" in block, "format: Flat" in block


def bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check_uv(env: dict[str, str]) -> dict[str, object]:
    """Compare every setting with what uv says that it would use; uv's answer."""
    theirs = uv_settings(env)
    ours = load_uv_settings(Path.cwd(), env)
    assert bare(ours.index) == theirs["default"]
    assert [bare(url) for url in ours.extra] == theirs["extra"]
    assert set(ours.find_links) == theirs["links"]
    assert list(ours.trusted_hosts) == theirs["hosts"]
    assert ours.no_index == theirs["no_index"]
    assert (ours.strategy or "first-index") == theirs["strategy"]
    return theirs


UV_TABLE = """
no-index = true
find-links = ["vendor", "https://links.example/all"]
allow-insecure-host = ["h.example"]
index-strategy = "unsafe-best-match"
[[{prefix}index]]
name = "team-a"
url = "https://team.example/s"
[[{prefix}index]]
url = "https://main.example/s"
default = true
[[{prefix}index]]
url = "https://flat.example/all"
format = "flat"
"""


@pytest.mark.parametrize("file", ["root/uv.toml", "root/pyproject.toml", "home/.config/uv/uv.toml", "named.toml"])
def test_uv_files_give_the_settings_that_uv_uses(env, tmp_path, file):
    project = file.endswith("pyproject.toml")
    table = UV_TABLE.format(prefix="tool.uv." if project else "")
    (tmp_path / file).write_text(f"[tool.uv]\n{table}" if project else table)
    if file == "named.toml":
        env["UV_CONFIG_FILE"] = str(tmp_path / file)
    theirs = check_uv(env)
    assert (theirs["default"], theirs["no_index"]) == ("https://main.example/s", True)
    variables = {"UV_INDEX_TEAM_A_USERNAME": "me", "UV_INDEX_TEAM_A_PASSWORD": "p@ss"}
    assert check_uv({**env, **variables}) == theirs
    assert load_uv_settings(Path.cwd(), {**env, **variables}).extra[0] == "https://me:p%40ss@team.example/s"


@pytest.mark.parametrize(
    "variables",
    [
        {"UV_INDEX": "corp=https://corp.example/s https://b.example/s", "UV_DEFAULT_INDEX": "https://d.example/s"},
        {"UV_INDEX_URL": "https://old.example/s", "UV_EXTRA_INDEX_URL": "https://a.example/s https://b.example/s"},
        {"UV_INDEX": "https://a.example/s", "UV_EXTRA_INDEX_URL": "https://b.example/s"},
        {"UV_DEFAULT_INDEX": "d=https://d.example/s", "UV_INDEX_URL": "https://old.example/s"},
        {"UV_FIND_LINKS": "/links,https://links.example/all", "UV_INSECURE_HOST": "a.example b.example"},
        {"UV_INDEX_STRATEGY": "unsafe-first-match"},
        {"UV_NO_CONFIG": "1"},
    ],
)
def test_uv_variables_give_the_settings_that_uv_uses(env, tmp_path, variables):
    check_uv({**env, **variables})
    (tmp_path / "root/uv.toml").write_text(
        'index-url = "https://file.example/s"\nextra-index-url = ["https://more.example/s"]\n'
        'find-links = ["vendor"]\nallow-insecure-host = ["f.example"]\n'
    )
    check_uv({**env, **variables})


def test_uv_files_of_project_and_user_are_merged_as_in_uv(env, tmp_path):
    (tmp_path / "root/uv.toml").write_text(
        'extra-index-url = ["https://project.example/s"]\n[pip]\nindex-strategy = "unsafe-best-match"\n'
    )
    (tmp_path / "home/.config/uv/uv.toml").write_text(
        'index-url = "https://user.example/s"\nextra-index-url = ["https://user.example/more"]\n'
        'index-strategy = "unsafe-first-match"\nfind-links = ["/links"]\n'
    )
    check_uv(env)


def test_uv_reads_no_variable_that_forbids_indexes(env):
    assert not uv_settings({**env, "UV_NO_INDEX": "1"})["no_index"], "uv reads it now: the resolver need not tell it"
