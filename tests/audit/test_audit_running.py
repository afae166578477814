"""The audit of a running container: no findings as recommended, and one finding for each deviation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buildkit.audit.running import Health, Observation, check_running
from buildkit.findings import Severity
from buildkit.running.proc import ListeningSocket, parse_mounts, parse_status
from tests.audit import observed

GOOD = Observation(
    processes=(parse_status(observed.STATUS),),
    environment=("PATH=/opt/venv/bin:/usr/bin", "PYTHONUNBUFFERED=1", "HOME=/nonexistent", "GREETING=hello"),
    mounts=parse_mounts(observed.MOUNTS),
    tmpfs=("/tmp",),
    written=("/tmp",),
    memory=1 << 30,
    pids=256,
    listening=(
        ListeningSocket(protocol="tcp", address="0.0.0.0", port=8000),
        ListeningSocket(protocol="tcp", address="127.0.0.1", port=40000),
    ),
    ports=("8000/tcp",),
    health=Health(code=0, code_halted=1),
)
TOKEN = "GITHUB_TOKEN=ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"


def status(old: str, new: str) -> Observation:
    assert old in observed.STATUS
    return replace(GOOD, processes=(*GOOD.processes, parse_status(observed.STATUS.replace(old, new))))


def mounts(old: str, new: str) -> Observation:
    assert old in observed.MOUNTS
    return replace(GOOD, mounts=parse_mounts(observed.MOUNTS.replace(old, new)))


PLANTED = {
    "ended at once": (replace(GOOD, ended=(3, "no such folder: /data")), "does-not-run", "no such folder: /data"),
    "uid 0": (status("Uid:\t1000\t1000", "Uid:\t1000\t0"), "process-root", "uid 0"),
    "gid 0": (status("Groups:\t1000", "Groups:\t1000 0"), "process-root", "gid 0"),
    "CapEff": (status("CapEff:\t0000000000000000", "CapEff:\t0000000000002000"), "process-capabilities", "net_raw"),
    "CapPrm": (status("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001"), "process-capabilities", "CapPrm"),
    "CapBnd": (status("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"), "process-capabilities", "41 of them"),
    "CapAmb": (status("CapAmb:\t0000000000000000", "CapAmb:\t0000000000000400"), "process-capabilities", "CapAmb"),
    "NoNewPrivs": (status("NoNewPrivs:\t1", "NoNewPrivs:\t0"), "new-privileges", "NoNewPrivs 0"),
    "Seccomp": (status("Seccomp:\t2", "Seccomp:\t0"), "no-seccomp", "Seccomp 0"),
    "a root that is mounted for writing": (mounts("/ / ro,", "/ / rw,"), "root-writable", "/ is mounted"),
    "no root at all": (replace(GOOD, mounts=()), "root-writable", "/ is mounted"),
    "a root that takes writing": (replace(GOOD, written=("/app", "/tmp")), "root-writable", "writing worked at /app"),
    "a volume": (
        replace(
            GOOD, mounts=(*GOOD.mounts, *parse_mounts("1 2 0:1 / /data rw,nosuid,noexec - ext4 /dev/x rw")),
            written=("/data", "/tmp"),
        ),
        "writable-place", "/data (ext4)",
    ),
    "shared memory that nobody named": (mounts("/dev/shm ro", "/dev/shm rw"), "writable-place", "/dev/shm (tmpfs)"),
    "a folder in memory that nobody named": (replace(GOOD, tmpfs=()), "writable-place", "/tmp (tmpfs)"),
    "what is written and started": (mounts("/tmp rw,nosuid,nodev,noexec", "/tmp rw,nodev"), "executable-place", "/tmp"),
    "memory": (replace(GOOD, memory=None), "no-memory-limit", "memory"),
    "processes": (replace(GOOD, pids=None), "no-pids-limit", "processes"),
    "a debugger": (
        replace(GOOD, listening=(*GOOD.listening, ListeningSocket(protocol="tcp", address="::", port=5678))),
        "undeclared-port", "5678/tcp",
    ),
    "udp": (
        replace(GOOD, listening=(ListeningSocket(protocol="udp", address="0.0.0.0", port=8000),)),
        "undeclared-port", "8000/udp",
    ),
    "nobody listens": (replace(GOOD, silent=("8000/tcp",)), "silent-port", "8000/tcp"),
    "a way out": (replace(GOOD, ways_out=("eth0",)), "way-out", "eth0"),
    "the host's processes": (replace(GOOD, shared=("pid",)), "shared-namespace", "pid"),
    "a secret": (replace(GOOD, environment=(*GOOD.environment, TOKEN)), "environment-secret", "GITHUB_TOKEN"),
    "no health check": (replace(GOOD, health=None), "health-missing", ""),
    "unwell": (replace(GOOD, health=Health(code=1, output="refused")), "health-fails", "refused"),
    "a blind health check": (replace(GOOD, health=Health(code=0, code_halted=0)), "health-blind", "halted"),
    "killed": (replace(GOOD, stopped=137), "ignores-stop", "after 10 s"),
    "nothing to try with": (replace(GOOD, written=None), "not-tried", ""),
}  # fmt: skip


def test_recommended_container_has_no_findings() -> None:
    assert check_running(GOOD) == ()
    assert check_running(replace(GOOD, ways_out=("eth0",), outgoing=True, stopped=143)) == ()
    bound = parse_mounts("1 2 0:6 /null /dev/null rw,nosuid,relatime - devtmpfs devtmpfs rw,size=9k")
    assert check_running(replace(GOOD, mounts=(*GOOD.mounts, *bound))) == (), "an ordinary user's runtime does that"
    shared = mounts("/dev/shm ro", "/dev/shm rw")
    assert check_running(replace(shared, tmpfs=(*GOOD.tmpfs, "/dev/shm"))) == (), "the stage names it"


@pytest.mark.parametrize("case", PLANTED)
def test_each_observation_gives_only_its_finding(case: str) -> None:
    seen, rule, words = PLANTED[case]
    (finding,) = check_running(seen)
    assert finding.rule.id == rule
    assert words in finding.what


def test_every_running_rule_has_sample_reason_and_advice() -> None:
    from buildkit.audit import running_rules as runningrules
    from buildkit.findings import Rule

    rules = {rule.id: rule for rule in vars(runningrules).values() if isinstance(rule, Rule)}
    assert set(rules) == {rule for _, rule, _ in PLANTED.values()}
    assert all(rule.why and rule.advice for rule in rules.values())
    unnumbered = {"does-not-run", "ignores-stop", "not-tried"}
    assert {name for name, rule in rules.items() if not rule.references} == unnumbered


def test_secret_in_environment_is_not_printed() -> None:
    (finding,) = check_running(PLANTED["a secret"][0])
    assert TOKEN[-20:] not in finding.what
    assert finding.severity is Severity.HIGH
