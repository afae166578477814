"""Run a GitHub workflow locally: every job on a simulated machine of its own, every ``run:`` step in a real bash.

The runner supports what our workflows use and rejects everything else, so no key is ignored silently. It supports two
actions: a checkout is a clone, and an artifact is a copy.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.ci.expressions import Functions, evaluate, fill, is_true, to_text

_STATUS = re.compile(r"\b(success|failure|cancelled|always)\(\)")
_WORKFLOW_KEYS = {"name", "on", "permissions", "concurrency", "env", "jobs"}
_JOB_KEYS = {"name", "needs", "if", "runs-on", "timeout-minutes", "permissions", "outputs", "strategy", "env", "steps"}
_STEP_KEYS = {"name", "id", "if", "uses", "with", "env", "run", "working-directory", "shell"}
_SHELLS = {"": ("bash", "-e"), "bash": ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")}


@dataclass(kw_only=True)
class Machine:
    """The machine of one job: a folder of its own, and an environment without the state of other machines."""

    folder: Path
    env: dict[str, str]
    prepare: Callable[[Path], None] = lambda _checkout: None  # called with a fresh checkout


@dataclass(kw_only=True)
class Job:
    """The outcome of a job, for one combination of its matrix."""

    name: str
    matrix: dict[str, Any]
    permissions: dict[str, str]
    result: str = "success"
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    artifacts: dict[str, Path] = field(default_factory=dict)


@dataclass(kw_only=True)
class Run:
    """A run of a workflow: the jobs in the order in which they ran, and results by job name."""

    jobs: list[Job] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)

    def named(self, name: str) -> list[Job]:
        """Return all jobs with a name."""
        return [job for job in self.jobs if job.name == name]

    @property
    def log(self) -> str:
        """The output of all jobs."""
        return "\n".join(f"--- {job.name} {job.matrix}: {job.result}\n{job.log}" for job in self.jobs)


class Workflow:
    """A workflow file; ``env`` replaces values of its own."""

    def __init__(self, path: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.value: dict[str, Any] = read_yaml(path)
        _refuse(self.value, _WORKFLOW_KEYS, path.name)
        unknown = (env or {}).keys() - self.value.get("env", {}).keys()
        assert not unknown, f"{path.name} has no {unknown} to replace"
        self._env = {**self.value.get("env", {}), **(env or {})}

    def run(
        self, repository: Path, github: Mapping[str, Any], machine: Callable[[dict[str, str]], Machine], folder: Path
    ) -> Run:
        """Run it for a commit of ``repository``; ``machine`` returns one for a job with the given permissions."""
        run = Run()
        outputs: dict[str, dict[str, str]] = {}
        for name, job in _in_order(self.value["jobs"]):
            _refuse(job, _JOB_KEYS, name)
            needs = _listed(job.get("needs", ()))
            known = {need: {"result": run.results[need], "outputs": outputs[need]} for need in needs}
            contexts = {"github": dict(github), "needs": known}
            before = [run.results[above] for above in _above(self.value["jobs"], name)]
            outputs[name] = {}
            if not _wanted(job.get("if", "success()"), contexts, _functions(before)):
                run.results[name] = "skipped"
                continue
            ended = []
            for matrix in _expand(job.get("strategy", {}), contexts):
                permissions = dict(job.get("permissions", self.value["permissions"]))
                one = Job(name=name, matrix=matrix, permissions=permissions)
                place = folder / f"{len(run.jobs):02d}-{name}"
                runner = _Runner(one, contexts | {"matrix": matrix}, machine(permissions), place)
                runner.go(job, self._env, repository)
                run.jobs.append(one)
                ended.append(one.result)
                outputs[name] |= one.outputs
            run.results[name] = "failure" if "failure" in ended else "success"
        return run


class _Runner:
    """One job on one machine."""

    def __init__(self, job: Job, contexts: Mapping[str, Any], machine: Machine, place: Path) -> None:
        self.job = job
        self.machine = machine
        self.place = place
        self.checkout = machine.folder / "work"
        self.contexts = {**contexts, "steps": {}}
        place.mkdir(parents=True)

    def go(self, value: Mapping[str, Any], above: Mapping[str, str], repository: Path) -> None:
        """Run every step, and set the job's outputs."""
        self.env = self._texts({**above, **value.get("env", {})})
        for number, step in enumerate(value["steps"]):
            _refuse(step, _STEP_KEYS, f"{self.job.name}, step {number}")
            if _wanted(step.get("if", "success()"), self.contexts, _functions([self.job.result])):
                if "uses" in step:
                    self._use(step, repository)
                elif not self._run(step, self.place / f"step-{number}"):
                    self.job.result = "failure"
        self.job.outputs = self._texts(value.get("outputs", {})) if self.job.result == "success" else {}

    def _use(self, step: Mapping[str, Any], repository: Path) -> None:
        action, given = step["uses"].partition("@")[0], self._texts(step.get("with", {}))
        if action == "actions/checkout":
            depth = () if given.pop("fetch-depth", "1") == "0" else ("--depth=1",)
            assert given == {"persist-credentials": "false"}
            subprocess.run(("git", "clone", "--quiet", *depth, f"file://{repository}", self.checkout), check=True)
            self.machine.prepare(self.checkout)
        elif action == "actions/upload-artifact":
            assert given.keys() == {"name", "path"}
            kept, made = self.place / "artifact", self.checkout / given["path"]
            if made.is_dir() or self.job.result == "success":
                shutil.copytree(made, kept)
                self.job.artifacts[given["name"]] = kept
        else:
            raise AssertionError(f"{action} is not known")

    def _run(self, step: Mapping[str, Any], place: Path) -> bool:
        files = {name: place / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
        place.mkdir()
        for path in files.values():
            path.touch()
        script = place / "script.sh"
        script.write_text(to_text(fill(step["run"], self.contexts, {})))
        own = self._texts(step.get("env", {}))
        env = {**self.machine.env, "CI": "true", **self.env, **own, **{name: str(path) for name, path in files.items()}}
        cwd = self.checkout / step.get("working-directory", ".")
        argv = (*_SHELLS[step.get("shell", "")], script)
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
        self.job.log += f"$ {step['run']}\n{done.stdout}{done.stderr}"
        self.job.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        self.env |= _pairs(files["GITHUB_ENV"].read_text())
        if "id" in step:
            self.contexts["steps"][step["id"]] = {"outputs": _pairs(files["GITHUB_OUTPUT"].read_text())}
        return done.returncode == 0

    def _texts(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {name: to_text(fill(to_text(value), self.contexts, {})) for name, value in values.items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of one mapping."""
    value: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    return value


def _in_order(jobs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    left = dict(jobs)
    while left:
        ready = [name for name in left if not any(need in left for need in _listed(left[name].get("needs", ())))]
        assert ready, f"jobs wait for each other: {sorted(left)}"
        for name in ready:
            yield name, left.pop(name)


def _above(jobs: Mapping[str, Any], name: str) -> set[str]:
    needs = set(_listed(jobs[name].get("needs", ())))
    return needs.union(*(_above(jobs, need) for need in needs))


def _functions(results: Sequence[str]) -> Functions:
    return {
        "always": lambda: True,
        "cancelled": lambda: False,
        "failure": lambda: "failure" in results,
        "success": lambda: all(result == "success" for result in results),
    }


def _wanted(condition: Any, contexts: Mapping[str, Any], functions: Functions) -> bool:
    text = to_text(condition)
    inner = text.strip().removeprefix("${{").removesuffix("}}") if "${{" in text else text
    wanted = is_true(evaluate(inner, contexts, functions))
    return wanted and (bool(_STATUS.search(inner)) or functions["success"]())


def _expand(strategy: Mapping[str, Any], contexts: Mapping[str, Any]) -> list[dict[str, Any]]:
    _refuse(strategy, {"fail-fast", "matrix"}, "strategy")
    if "matrix" not in strategy:
        return [{}]
    matrix = fill(strategy["matrix"], contexts, {})
    assert matrix.keys() == {"include"}, matrix
    assert matrix["include"], "GitHub refuses an empty matrix"
    return list(matrix["include"])


def _pairs(text: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in text.splitlines()]
    assert all(sign for _, sign, _ in pairs), f"only NAME=VALUE is known: {text!r}"
    return {name: value for name, _, value in pairs}


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _refuse(value: Mapping[str, Any], known: set[str], where: str) -> None:
    assert not value.keys() - known, f"{where}: {sorted(value.keys() - known)} is not known here"
