"""`ci/image` on its own: wrong requests, log-ins that fail, and the child pipeline that GitLab gets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.e2e.tinyproject import Tiny
from tests.registry import USER, serve_registry

ROOT = Path(__file__).resolve().parents[2]


def run(tiny: Tiny, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    (tiny.project / "ci").mkdir(exist_ok=True)
    for name in ("image", "gitlab-jobs.yml"):
        shutil.copy(ROOT / "ci" / name, tiny.project / "ci")
    path = {"PATH": f"{Path(sys.executable).parent}:{tiny.env['PATH']}"}
    argv = (tiny.project / "ci/image", *arguments)
    return subprocess.run(
        argv, cwd=tiny.project, env=tiny.env | path | env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "usage: ci/image plan"),
        (("what",), "usage: ci/image plan"),
        (("build",), "error: build takes one stage"),
        (("test", "a", "b"), "error: test takes one stage"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], message: str) -> None:
    done = subprocess.run((ROOT / "ci/image", *arguments), capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


NOX = """\
#!/bin/bash
echo "${SIGN_KEY:-unset}" >exported
printf '%s\\n' "$@" >words
while (($#)) && [[ $1 != --sign-by ]]; do shift; done
if (($#)); then
    stat --format=%a -- "${2%/*}" >mode
    cat -- "$2" >key
    echo "$2" >place
fi
"""
PEM = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("env", "options", "key"),
    [
        ({}, [], ""),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x"}, ["--sign-keyless"], ""),
        ({"SIGSTORE_ID_TOKEN": "token"}, ["--sign-keyless"], ""),
        ({"SIGN_KEY": PEM}, ["--sign-by", "KEY"], f"{PEM}\n"),
        ({"SIGN_KEY": "FILE", "SIGSTORE_ID_TOKEN": "token"}, ["--sign-keyless", "--sign-by", "KEY"], "of a file\n"),
    ],
    ids=["nothing", "github", "gitlab", "key", "both"],
)
def test_publish_attests_and_signs_by_what_the_job_has(
    tmp_path: Path, env: dict[str, str], options: list[str], key: str
) -> None:
    (tmp_path / "key.pem").write_text("of a file\n")
    nox = tmp_path / "nox"
    nox.write_text(NOX)
    nox.chmod(0o755)
    env = {name: value.replace("FILE", str(tmp_path / "key.pem")) for name, value in env.items()}
    base = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REGISTRY": "r.io", "REPOSITORY": "Me/App"}
    done = subprocess.run(
        (ROOT / "ci/image", "publish", "v1"), cwd=tmp_path, env=base | env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:8] == ["-s", "build", "--", "--frozen", "--no-import", "--push", "r.io/me/app", "--cache-write"]
    place = (tmp_path / "place").read_text().strip() if key else ""
    signing = words[words.index("--attest") + 1 :]
    assert ["KEY" if word == place else word for word in signing] == options
    assert ("without a signature" in done.stderr) == (not options)
    assert (tmp_path / "exported").read_text() == "unset\n"
    assert "abc" not in done.stderr + done.stdout
    if key:
        assert (tmp_path / "key").read_text() == key
        assert key.startswith("of a file") or (tmp_path / "mode").read_text() == "700\n"
        assert key.startswith("of a file") or not Path(place).exists(), "the key is forgotten"


@pytest.mark.parametrize("command", [("build", "x"), ("test", "x"), ("publish",)])
def test_every_build_is_frozen(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "nox").write_text('#!/bin/sh\necho "$@" >>calls\nexit 1\n')
    (tmp_path / "nox").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REGISTRY": "r.io", "REPOSITORY": "a"}
    subprocess.run((ROOT / "ci/image", *command), env=env, cwd=tmp_path, capture_output=True)
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("-s build")
    assert "-- --frozen " in call


@pytest.mark.tools
def test_missing_registry_or_repository_fails(tiny: Tiny) -> None:
    done = run(tiny, "plan", REGISTRY="r.io")
    assert done.returncode != 0
    assert "REPOSITORY: is not set" in done.stderr


@pytest.mark.tools
def test_failed_log_in_does_not_stop_the_job(tiny: Tiny, tmp_path: Path) -> None:
    with serve_registry(tmp_path, password=True) as host:
        containers = tiny.folder / "home/.config/containers"
        (containers / "registries.conf").write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        words = {"REGISTRY": host, "REPOSITORY": "Some/Body", "REGISTRY_USER": USER, "REGISTRY_PASSWORD": "wrong-word"}
        done = run(tiny, "plan", **words)
    assert done.returncode == 0, done.stderr
    assert f"continuing without a log-in to {host}" in done.stderr
    assert f"looking up {host}/some/body:cache-of-app failed" in done.stderr
    name, _, matrix = done.stdout.partition("=")
    assert name == "matrix"
    assert len(json.loads(matrix)["waves"]) == 2
    assert "wrong-word" not in done.stdout + done.stderr
    assert list((tiny.folder / "tmp").iterdir()) == [], "the log-in is forgotten"


@pytest.mark.tools
def test_plan_writes_a_child_pipeline_on_gitlab(tiny: Tiny, registry: str) -> None:
    done = run(tiny, "plan", "--waves", "2", GITLAB_CI="true", REGISTRY=registry, REPOSITORY="gitlab/child")
    assert done.returncode == 0, done.stderr
    file = tiny.project / "child-pipeline.yml"
    tool = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run((tool, "--builtin-schema", "vendor.gitlab-ci", file), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    child = YAML(typ="safe", pure=True).load(file.read_text())
    assert child["stages"] == ["build-1", "build-2", "test"]
    made = {name: job for name, job in child.items() if name in child["stages"]}
    assert {name: job["stage"] for name, job in made.items()} == {name: name for name in made}
    assert {name: job["parallel"]["matrix"] for name, job in made.items()} == {
        "build-1": [{"STAGE": ["base", "deps", "models"]}],
        "build-2": [{"STAGE": ["app"]}],
        "test": [{"STAGE": ["app"]}],
    }
    assert {name: job["extends"] for name, job in made.items()} == {
        "build-1": ".image-build",
        "build-2": ".image-build",
        "test": ".image-test",
    }
    assert all('"$STAGE"' in line for job in made.values() for line in child[job["extends"]]["script"])
