"""An audit of running containers when podman, the kernel or the checkout do not answer, and what others read of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit.audit.described import DescribedContainer
from buildkit.audit.sighting import ImageState, ImageVerdict, Sighting
from buildkit.errors import ToolError
from buildkit.findings import Severity
from buildkit.inspection.declared_containers import Declaration, declare_foreign
from buildkit.inspection.findings_file import finding_families
from buildkit.inspection.running_audit import AuditSources, RunningAudit, audit_containers
from buildkit.inspection.running_audit_report import (
    audit_as_json,
    audit_as_sarif,
    render_running_audit,
    screen_lines,
)
from buildkit.running.proc import parse_mounts, parse_status
from buildkit.tools import running_containers
from buildkit.tools.cgroups import CgroupReader
from buildkit.tools.process_reader import ContainerProcesses
from buildkit.tools.running_containers import RunningDescriptions, describe_running
from tests.audit import observed

SEEN = Sighting(processes=(parse_status(observed.STATUS),), mounts=parse_mounts(observed.MOUNTS))


def describe(ident: str, name: str) -> dict[str, Any]:
    return {"Id": ident * 64, "Name": name, "State": {"Pid": 7}, "ImageName": "localhost/x/app:latest"}


class Engine:
    """podman, the kernel and a checkout, as an audit asks them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.running = [describe("1", "one"), describe("2", "two")]
        self.seen = {one["Id"]: SEEN for one in self.running}
        self.error = self.why = ""
        self.asked = 0
        self.now = 0.0
        monkeypatch.setattr(running_containers, "describe_running", self._describe)
        (tmp_path / "self").mkdir()
        (tmp_path / "self/mountinfo").touch()
        reader = CgroupReader(tmp_path)
        podman = RunningDescriptions(reader, lambda: self.now)
        self.sources = AuditSources(podman=podman, read=self._read, wall=lambda: 1000.0, limits=reader)

    def _describe(self) -> list[dict[str, Any]]:
        self.asked += 1
        if self.error:
            raise ToolError(self.error)
        return self.running

    def _read(self, wanted: Sequence[ContainerProcesses]) -> dict[str, Sighting]:
        return {one.id: self.seen[one.id] for one in wanted if one.id in self.seen}

    def concerns(self, one: DescribedContainer) -> bool:
        return one.name != "others"

    def find(self, wanted: Sequence[DescribedContainer]) -> tuple[dict[str, Declaration], str]:
        image = ImageVerdict(state=ImageState.GOOD)
        return {one.id: Declaration(declared=declare_foreign(one), image=image) for one in wanted}, self.why

    def look(self) -> RunningAudit:
        return audit_containers(self, self.sources)  # type: ignore[arg-type]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    return Engine(monkeypatch, tmp_path)


def test_containers_of_the_project_are_audited_and_one_that_has_ended_is_left_out(engine: Engine) -> None:
    engine.running.append(describe("3", "others"))
    audit = engine.look()
    assert [one.name for one in audit.containers] == ["one", "two"]
    assert audit.complete
    assert {finding.rule.id for finding in audit.findings} == {"no-memory-limit", "no-pids-limit"}
    assert not audit.closes(Severity.HIGH)
    assert audit.closes(Severity.MEDIUM)
    del engine.seen["1" * 64]
    audit = engine.look()
    assert [one.name for one in audit.containers] == ["two"]
    assert audit.complete, "what has ended needs not be examined"


def test_podman_or_a_checkout_that_does_not_answer_is_never_clean(engine: Engine) -> None:
    engine.error = "podman is broken"
    audit = engine.look()
    assert (audit.containers, audit.complete) == ((), False)
    assert audit.closes(None), "whatever --fail-on says"
    assert "not examined: podman is broken" in render_running_audit(audit, None)
    assert "could be examined" in screen_lines(audit, 10)[0][0]
    log = json.loads(audit_as_sarif(audit))
    assert log["runs"][0]["invocations"] == [{"executionSuccessful": False}]
    engine.error, engine.why = "", "the checkout could not be asked: stage.toml is wrong"
    audit = engine.look()
    assert (len(audit.containers), audit.problems) == (2, (engine.why,))
    assert audit.closes(None)


def test_podman_that_hangs_is_ended_and_never_clean(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(running_containers, "_STALL", 0.2)
    monkeypatch.setattr(running_containers, "describe_running", describe_running)
    assert engine.look().problems == ("listing containers was ended: nothing came or went for 0 s",)


def test_unread_process_makes_its_container_and_the_audit_incomplete(engine: Engine) -> None:
    engine.seen["1" * 64] = replace(SEEN, unread=("process 7: Permission denied",))
    value = audit_as_json(engine.look(), 10.0)
    assert value["complete"] is False
    assert [one["complete"] for one in value["containers"]] == [False, True]
    assert [one["what"] for one in value["findings"] if one["rule"] == "not-checked"] == [
        "not read: process 7: Permission denied"
    ]


def test_monitor_counts_what_was_found(engine: Engine) -> None:
    value = json.loads(json.dumps(audit_as_json(engine.look(), 10.0)))
    families = {family.name: family for family in finding_families(value)}
    counted = {(dict(labels)["rule"], dict(labels)["container"]) for labels, _ in families["xoe_findings"].samples}
    assert counted == {(rule, name) for rule in ("no-memory-limit", "no-pids-limit") for name in ("one", "two")}
    assert {"xoe_findings_complete", "xoe_findings_timestamp_seconds"} <= families.keys()


def test_screen_shows_the_worst_first_and_counts_what_has_no_room(engine: Engine) -> None:
    engine.seen["2" * 64] = replace(SEEN, unread=("process 7: \x1b[2J",))
    lines = screen_lines(engine.look(), 20)
    assert lines[1][0].startswith("high      two: not-checked: not read: process 7")
    assert all(text.isprintable() for text, _ in lines)
    assert screen_lines(engine.look(), 3)[-1][0] == "… 4 lines more"


def test_podman_is_asked_when_groups_change_and_once_more_for_a_strangers(engine: Engine, tmp_path: Path) -> None:
    own, stranger = "1" * 64, "9" * 64
    engine.running = [describe("1", "one")]
    groups = tmp_path / "cgroup/libpod_parent"
    (tmp_path / "self/mountinfo").write_text(f"1 0 0:1 / {groups.parent} rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(f"0::/libpod_parent/libpod-{own}\n")
    (groups / f"libpod-{own}").mkdir(parents=True)
    podman = RunningDescriptions(CgroupReader(tmp_path), lambda: engine.now)

    def asks() -> int:
        before = engine.asked
        assert podman.find() == engine.running
        return engine.asked - before

    assert [asks() for _ in range(3)] == [1, 0, 0]
    (groups / f"libpod-{stranger}").mkdir()
    assert [asks() for _ in range(4)] == [1, 1, 0, 0], "it is of another storage"
    podman.forget()
    assert [asks() for _ in range(2)] == [1, 0]
    engine.now = 61.0
    assert [asks() for _ in range(2)] == [1, 0]


def test_podman_is_asked_always_where_groups_do_not_tell(engine: Engine) -> None:
    for _ in range(3):
        engine.look()
    assert engine.asked == 3


@pytest.mark.parametrize("described", ["", "[]", '[{"Id": "1", "Stat'])
def test_container_that_podman_does_not_describe_is_no_absent_one(
    described: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "podman"
    running = tmp_path / "running"
    running.write_text("1\n")
    program.write_text(f"#!/bin/sh\n[ $1 = ps ] && exec cat {running}\nprintf '%s' '{described}'\nexit 125\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ToolError, match="does not describe 1 of 1"):
        describe_running()
    program.write_text(program.read_text().replace("printf", f": > {running}; printf"))
    assert describe_running() == [], "it has ended meanwhile"
