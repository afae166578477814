"""Run `images.yml`: its own steps, on simulated machines, against a real registry whose requests are counted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.ci.runner import Job, Machine, Run, Workflow, read_yaml
from tests.e2e.conftest import new_tiny, short_folder
from tests.e2e.tinyproject import Tiny
from tests.faultyproxy import FaultyProxy, Request
from tests.registry import PASSWORD, USER, serve_registry, write_login

pytestmark = pytest.mark.tools

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github/workflows/images.yml"
OURS = ("ci/image", "ci/bootstrap", "ci/packages.txt")
REPOSITORY = "Somebody/Tiny"  # GitHub keeps the case, registries know none
SERVICE = 'echo "$GREETING from $PWD"\n: > /tmp/ready\nexec sleep 300\n'
WEB = (
    'summary = "ships, and has no layer of its own"\nfrom = "app"\nships = true\n[config]\nenv = { GREETING = "hi" }\n'
)
_REGISTRIES = """[[registry]]
location = "{images}"
insecure = true
[[registry]]
prefix = "{registry}"
location = "{roots}"
insecure = true
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run, with each job's requests to the registry of images and cache, and to that of roots."""

    run: Run
    asked: tuple[tuple[Request, ...], ...]
    roots: tuple[Request, ...]
    caches: tuple[Path, ...]

    def of(self, *names: str) -> list[Request]:
        """Return the requests of these jobs."""
        return [one for job, asked in zip(self.run.jobs, self.asked, strict=True) if job.name in names for one in asked]

    def stages(self, name: str) -> list[str]:
        """Stages of the jobs of a name."""
        return [job.matrix["stage"] for job in self.run.named(name)]

    def reports(self, name: str) -> list[dict[str, Any]]:
        """Reports that jobs of a name kept."""
        return [report for job in self.run.named(name) for report in reports(job)]


def reports(job: Job) -> list[dict[str, Any]]:
    (folder,) = job.artifacts.values()
    (path,) = folder.iterdir()
    value = json.loads(path.read_text())
    return value if isinstance(value, list) else [value]


def built(found: list[dict[str, Any]]) -> list[str]:
    return sorted(layer["name"] for report in found for layer in report["layers"] if layer["source"] == "built")


class GitHub:
    """A repository, a registry, and machines that are discarded after each job."""

    def __init__(self, tiny: Tiny, images: str, registry: str, stack: ExitStack) -> None:
        self.tiny = tiny
        self.images = images
        self.registry = registry
        self._stack = stack
        self._runs = 0

    def commit(self, path: str, text: str) -> None:
        """Push one more commit."""
        self.tiny.write(path, text)
        self.tiny.git("add", ".")
        self.tiny.git("commit", "--quiet", "--message=One more")

    def event(self, name: str = "push", *, tag: str = "", fresh: bool = False) -> Seen:
        """Run the workflow; only for a ``fresh`` one can wheels and roots be had from where they come from."""
        self._runs += 1
        proxy, roots = FaultyProxy(self.images), FaultyProxy(self.registry)
        stack = self._stack
        marks: list[int] = []
        machines: list[Tiny] = []

        def machine(_permissions: dict[str, str]) -> Machine:
            made = Tiny(short_folder(), links=self.tiny.folder / "links" if fresh else Path("/nonexistent"))
            stack.callback(made.remove)
            conf = made.folder / "home/.config/containers/registries.conf"
            where = roots.host if fresh else "127.0.0.1:1"
            conf.write_text(_REGISTRIES.format(images=proxy.host, registry=self.registry, roots=where))
            del made.env["BUILDKIT_CACHE"]  # its place is in the home folder then
            made.env["PATH"] = f"{Path(sys.executable).parent}:{made.env['PATH']}"
            marks.append(len(proxy.requests))
            machines.append(made)
            return Machine(folder=made.folder, env=made.env, prepare=prepare)

        folder = self.tiny.folder / f"run-{self._runs}"
        with proxy, roots:
            workflow = Workflow(WORKFLOW, env={"REGISTRY": proxy.host, "PROBE": ""})
            run = workflow.run(self.tiny.project, self._context(name, tag), machine, folder)
        bounds = [*marks, len(proxy.requests)]
        asked = tuple(tuple(proxy.requests[a:b]) for a, b in pairwise(bounds))
        caches = tuple(made.folder / "home/.cache/xoe-buildkit" for made in machines)
        return Seen(run=run, asked=asked, roots=tuple(roots.requests), caches=caches)

    def _context(self, event: str, tag: str) -> dict[str, Any]:
        head = subprocess.run(
            ("git", "rev-parse", "HEAD"), cwd=self.tiny.project, capture_output=True, text=True, check=True
        )
        return {
            "event_name": event,
            "repository": REPOSITORY,
            "actor": USER,
            "token": PASSWORD,
            "sha": head.stdout.strip(),
            "ref_type": "tag" if tag else "branch",
            "ref_name": tag or "main",
        }

    def manifest(self, tag: str) -> bytes:
        """The manifest under a tag of the repository."""
        login = write_login(self.tiny.folder / "login.json", self.images)
        argv = ("skopeo", "inspect", "--raw", "--tls-verify=false", f"--authfile={login}")
        name = f"docker://{self.images}/{REPOSITORY.lower()}:{tag}"
        done = subprocess.run((*argv, name), capture_output=True, env=self.tiny.env)
        assert done.returncode == 0, done.stderr
        return done.stdout


def prepare(checkout: Path) -> None:
    """A finished environment of ci/bootstrap, so that it installs nothing."""
    programs = checkout / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "nox"):
        (programs / name).symlink_to(Path(sys.executable).with_name(name))
    stamp(checkout)


def stamp(checkout: Path) -> None:
    """Mark a checkout's environment as finished, as ci/bootstrap does."""
    inputs = [checkout / name for name in ("pyproject.toml", "ci/locks/bootstrap.txt")]
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in inputs if path.exists())).hexdigest()
    python = os.path.realpath(checkout / ".venv/bin/python")
    (checkout / ".venv/.bootstrap-done").write_text(f"{made_of} {checkout.resolve()} {python}\n")


@pytest.fixture(scope="module")
def github(template: Path, registry: str, links: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    with ExitStack() as stack:
        images = stack.enter_context(serve_registry(tmp_path_factory.mktemp("images"), password=True))
        tiny = new_tiny(template, registry, links)
        stack.callback(tiny.remove)
        for name in OURS:
            (tiny.project / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tiny.project / name)
        tiny.replace("stages/app/stage.toml", 'test = ["/bin/sh", "-c", "exit 0"]', 'test = ["/bin/ls", "/tmp/ready"]')
        tiny.write("stages/web/stage.toml", WEB)
        hub = GitHub(tiny, images, registry, stack)
        hub.commit("stages/app/app/main.sh", SERVICE)
        yield hub


@pytest.fixture(scope="module")
def first(github: GitHub) -> Seen:
    return github.event(fresh=True)


@pytest.fixture(scope="module")
def second(github: GitHub, first: Seen) -> Seen:
    assert first.run.results["publish"] == "success", first.run.log
    github.commit("stages/app/app/words.txt", "other words\n")
    return github.event()


def test_push_to_main_builds_in_waves_tests_and_publishes_every_image(github: GitHub, first: Seen) -> None:
    assert first.run.results == {
        "plan": "success",
        "build-1": "success",
        "build-2": "success",
        "build-3": "skipped",
        "build-4": "skipped",
        "test": "success",
        "publish": "success",
    }, first.run.log
    assert first.stages("build-1") == ["base", "deps", "models"]
    assert first.stages("build-2") == ["app"], "web has no layer of its own"
    assert sorted(first.stages("test")) == ["app", "web"]
    layers = {layer["name"] for layer in first.reports("publish")[0]["layers"]}
    assert built([*first.reports("build-1"), *first.reports("build-2")]) == sorted(layers), "each is built once"
    assert built([*first.reports("test"), *first.reports("publish")]) == []
    assert first.roots, "the root was fetched, by one job"
    assert "localhost/tiny/app:latest is healthy" in first.run.log


def test_summary_lists_published_images(github: GitHub, first: Seen) -> None:
    (publish,) = first.run.named("publish")
    for report in reports(publish):
        digests = {one["ref"].rpartition(":")[2]: one["digest"] for one in report["pushed"]}
        stage = report["stage"]
        assert next(iter(digests)) == stage
        assert re.fullmatch(rf"{stage}-[0-9a-f]{{40}}", list(digests)[1])
        attached = json.loads(github.manifest(digests[stage].replace(":", "-")))["manifests"]
        kinds = {line["annotations"]["in-toto.io/predicate-type"] for line in attached}
        assert kinds == {"https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"}
        for tag, digest in digests.items():
            assert f"sha256:{hashlib.sha256(github.manifest(list(digests)[1])).hexdigest()}" == digest
            assert f"/somebody/tiny:{tag}</code> | <code>{digest}</code>" in publish.summary
    assert "### app" in first.run.named("build-2")[0].summary
    assert "| app/app |" in first.run.named("build-2")[0].summary


def test_second_runner_builds_one_layer_for_a_changed_application_line_and_fetches_nothing_heavy(
    first: Seen, second: Seen
) -> None:
    assert second.run.results["publish"] == "success", second.run.log
    assert second.run.results["build-2"] == "skipped"
    assert second.stages("build-1") == ["app"]
    (report,) = second.reports("build-1")
    assert built(second.reports("build-1")) == ["app/app"]
    assert report["bytes"]["fetched"] == 0
    assert {layer["source"] for layer in report["layers"] if layer["name"] != "app/app"} == {"shared"}
    assert built(second.reports("publish")) == []

    asked = second.of("plan", "build-1", "publish")
    heavy = {layer["digest"] for layer in first.reports("publish")[0]["layers"] if layer["kind"] != "files"}
    read = {one.path.rpartition("/")[2] for one in asked if one.method == "GET" and "/blobs/" in one.path}
    assert len(heavy) >= 6
    assert not heavy & read, "no wheel, no model, no root"
    assert second.roots == ()
    for job, cache in zip(second.run.jobs, second.caches, strict=True):
        assert not list(cache.glob("files/*/*")), f"{job.name} downloaded something"
    bulk = max(layer["size"] for layer in first.reports("publish")[0]["layers"] if layer["kind"] == "wheels")
    assert sum(one.up + one.down for one in asked) < bulk < sum(one.down for one in second.of("test"))


def test_jobs_use_exactly_their_permissions(first: Seen, second: Seen) -> None:
    for seen in (first, second):
        for job in seen.run.jobs:
            writes = [one for one in seen.of(job.name) if one.method in ("POST", "PUT", "PATCH", "DELETE")]
            assert bool(writes) == (job.permissions["packages"] == "write"), job.name
            identity = {"id-token": "write"} if job.name == "publish" else {}
            assert job.permissions == {"contents": "read", "packages": job.permissions["packages"], **identity}


def test_pull_request_is_built_and_tested_without_writing_to_the_registry(github: GitHub, second: Seen) -> None:
    github.commit("stages/app/app/words.txt", "words that somebody suggests\n")
    seen = github.event("pull_request")
    ran = {name: result for name, result in seen.run.results.items() if result != "skipped"}
    assert ran == {"plan": "success", "test": "success"}, seen.run.log
    assert built(seen.reports("test")) == ["app/app", "app/app"], "each machine builds what is nowhere"
    assert {one.method for one in seen.of("plan", "test")} <= {"GET", "HEAD"}
    assert all(job.permissions["packages"] == "read" for job in seen.run.jobs)


def test_image_that_does_not_start_is_not_published(github: GitHub, second: Seen) -> None:
    published = github.manifest("app")
    github.commit("stages/app/app/main.sh", "echo too bad >&2\nexit 3\n")
    seen = github.event()
    assert seen.run.results["build-1"] == "success", seen.run.log
    assert seen.run.results["test"] == "failure"
    assert seen.run.results["publish"] == "skipped"
    assert github.manifest("app") == published
    assert "too bad" in seen.run.log
    assert "error: localhost/tiny/app:latest ended with exit code 3" in seen.run.log
    github.commit("stages/app/app/main.sh", SERVICE)


def test_stage_that_needs_no_work_is_published(github: GitHub, second: Seen) -> None:
    github.commit("stages/app/app/words.txt", "other words\n")
    seen = github.event(tag="v1.0")
    ran = {name: result for name, result in seen.run.results.items() if result != "skipped"}
    assert ran == {"plan": "success", "test": "success", "publish": "success"}, seen.run.log
    assert "nothing to build" in seen.run.log
    for stage in ("app", "web"):
        (before,) = [r for r in second.reports("publish") if r["stage"] == stage]
        digest = f"sha256:{hashlib.sha256(github.manifest(f'{stage}-v1.0')).hexdigest()}"
        assert digest == before["pushed"][0]["digest"], "the same image has one digest on every machine"
    uploaded = sum(one.up for one in seen.of("publish"))
    assert 0 < uploaded < 100_000, "names, configs and attestations, no layer"


def test_workflow_has_a_job_for_every_wave_of_its_plan() -> None:
    jobs: Mapping[str, Any] = read_yaml(WORKFLOW)["jobs"]
    waves = [name for name in jobs if name.startswith("build-")]
    assert waves == [f"build-{number}" for number in range(1, len(waves) + 1)]
    assert f"ci/image plan --waves {len(waves)}" in jobs["plan"]["steps"][-1]["run"]
    for number, name in enumerate(waves):
        assert f".waves[{number}] != null" in jobs[name]["if"]
        assert jobs[name]["strategy"]["matrix"] == f"${{{{ fromJSON(needs.plan.outputs.matrix).waves[{number}] }}}}"
        rest = {key: value for key, value in jobs[name].items() if key not in ("if", "needs", "strategy")}
        assert rest == {key: value for key, value in jobs["build-1"].items() if key in rest}
