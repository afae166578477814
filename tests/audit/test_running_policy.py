"""Containers that run, against what is declared: no finding as declared, one for each deviation, and accepted ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from buildkit.audit.described import parse_described, parse_runtime_calls
from buildkit.audit.running_flags import parse_calls, service_calls
from buildkit.audit.running_policy import judge
from buildkit.audit.sighting import (
    DeclaredContainer,
    GivenFlags,
    ImageState,
    ImageVerdict,
    NetworkSight,
    RunningCode,
    Sighting,
)
from buildkit.declare.audit_file import parse_acceptances
from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.ports import parse_port
from buildkit.declare.stage import Running
from buildkit.findings import Rule, Severity
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import BindMount, SecretMount
from buildkit.running.proc import Connection, ListeningSocket, parse_mounts, parse_status
from tests.audit import observed

PROGRAM = RunningCode(how="program", path="/usr/bin/python3.13", place="image", kind="overlay", writable=False)
SERVED = Connection(protocol="tcp", port=8000, remote="10.88.0.1", remote_port=40000)
NETWORK = NetworkSight(
    listening=(ListeningSocket(protocol="tcp", address="0.0.0.0", port=8000),), connections=(SERVED,)
)
CLEAN = Sighting(
    processes=(parse_status(observed.STATUS),),
    environment=("PATH=/usr/bin",),
    mounts=parse_mounts(observed.MOUNTS),
    networks=(NETWORK,),
    code=(PROGRAM, replace(PROGRAM, how="library", path="/usr/lib/libc.so.6")),
    memory=1 << 30,
    pids=256,
)
GIVEN = GivenFlags(published=(("8000/tcp", "127.0.0.1"),), calls=service_calls())
GOOD = ImageVerdict(state=ImageState.GOOD)
SPEC = ContainerSpec(
    image="localhost/x/app:latest", name="x-app", running=Running(), ports=(parse_port("8000"),), seccomp="x.json"
)
DECLARED = DeclaredContainer(spec=SPEC, stage="app")


def code(how: str, path: str, place: str, **more: object) -> Sighting:
    return replace(CLEAN, code=(PROGRAM, RunningCode(how=how, path=path, place=place, names=("sh",), **more)))


def status(old: str, new: str) -> Sighting:
    assert old in observed.STATUS
    return replace(CLEAN, processes=(parse_status(observed.STATUS.replace(old, new)),))


def connected(remote: str, port: int = 50000) -> Sighting:
    one = Connection(protocol="tcp", port=port, remote=remote, remote_port=443)
    return replace(CLEAN, networks=(replace(NETWORK, connections=(SERVED, one)),))


SEEN = {
    "a copied program": (code("program", "/usr/bin/evil", "written"), "code-not-in-image", "written after"),
    "a library of nowhere": (code("library", "/opt/x.so", "absent"), "code-not-in-image", "no layer"),
    "a deleted program": (code("program", "/usr/bin/evil", "gone"), "code-not-in-image", "run by sh"),
    "a program of a volume": (
        code("program", "/data/x", "mount", mount="/data", kind="ext4", writable=True),
        "code-from-writable", "/data (ext4)",
    ),
    "a program of another image": (code("program", "/mnt/x", "mount", mount="/mnt"), "code-mounted", "mounted at /mnt"),
    "a program in memory": (code("program", "/memfd:x", "memory"), "code-in-memory", "/memfd:x"),
    "a script in memory": (
        code("script", "/tmp/x.py", "mount", mount="/tmp", kind="tmpfs", writable=True),
        "script-from-writable", "/tmp/x.py",
    ),
    "a written script": (code("script", "/app/x.py", "written"), "script-from-writable", "written after"),
    "an unknown storage": (code("program", "/x", "unknown"), "not-checked", "cannot be told"),
    "a process that is not ours to read": (
        replace(CLEAN, unread=("process 7: Permission denied",)), "not-checked", "process 7",
    ),
    "another host": (connected("203.0.113.9"), "outgoing-connection", "203.0.113.9, port 443/tcp"),
    "the host itself": (connected("10.88.0.1"), "outgoing-connection", "10.88.0.1"),
    "root": (status("Uid:\t1000", "Uid:\t0"), "process-root", "uid 0"),
    "a capability": (
        status("CapEff:\t0000000000000000", "CapEff:\t0000000000000400"), "process-capabilities", "net_bind",
    ),
    "more memory than declared": (replace(CLEAN, memory=2 << 30), "weaker-flag", "1g is declared"),
    "more processes than declared": (replace(CLEAN, pids=4096), "weaker-flag", "256 is declared"),
    "no limit": (replace(CLEAN, memory=None), "no-memory-limit", ""),
    "the host's network": (replace(CLEAN, shared=("net",), networks=()), "shared-namespace", "net"),
}  # fmt: skip
FLAGS = {
    "privileged": (replace(GIVEN, privileged=True), "weaker-flag", "--privileged"),
    "a device": (replace(GIVEN, devices=("/dev/sda",)), "weaker-flag", "/dev/sda"),
    "published for all": (replace(GIVEN, published=(("8000/tcp", ""),)), "weaker-flag", "every address"),
    "published undeclared": (replace(GIVEN, published=(("9/tcp", "10.0.0.1"),)), "weaker-flag", "9/tcp"),
    "the engine": (replace(GIVEN, sources=(("/run/podman/podman.sock", "/x"),)), "engine-mounted", "/x"),
    "the engine's folder": (replace(GIVEN, sources=(("/run/user/1000", "/x"),)), "engine-mounted", "/x"),
    "the whole host": (replace(GIVEN, sources=(("/", "/x"),)), "engine-mounted", "/x"),
    "a file of the host": (replace(GIVEN, sources=(("/etc/shadow", "/x"),)), "undeclared-mount", "/etc/shadow"),
    "another filter": (
        replace(GIVEN, calls=service_calls() | {("mount", ""), ("bpf", "")}), "weaker-flag", "refuses: bpf, mount",
    ),
    "a filter without its conditions": (
        replace(GIVEN, calls=service_calls() | {("socket", "")}), "weaker-flag", "socket",
    ),
    "an unread filter": (replace(GIVEN, calls=None), "not-checked", "system calls"),
}  # fmt: skip


def test_declared_files_of_the_host_are_no_findings_and_others_in_their_place_are() -> None:
    spec = replace(
        SPEC,
        mounts=(BindMount(source="/srv/conf", target="/etc/conf"),),
        secrets=(SecretMount(name="key", secret="x"),),
    )
    declared = replace(DECLARED, spec=spec, sources=(("/run/a", "/app"),))
    binds = (("/srv/conf", "/etc/conf"), ("/run/a", "/app"), ("/home/me/key", "/run/secrets/key"))
    assert judge(CLEAN, replace(GIVEN, sources=binds), GOOD, declared).findings == ()
    other = replace(GIVEN, sources=(("/srv/other", "/etc/conf"),))
    assert [one.rule.id for one in judge(CLEAN, other, GOOD, declared).findings] == ["undeclared-mount"]


def test_container_as_declared_has_no_finding() -> None:
    verdict = judge(CLEAN, GIVEN, GOOD, DECLARED)
    assert verdict.findings == ()
    assert verdict.accepted == ()
    assert verdict.complete


@pytest.mark.parametrize("case", SEEN)
def test_each_sight_gives_only_its_finding(case: str) -> None:
    seen, rule, words = SEEN[case]
    verdict = judge(seen, GIVEN, GOOD, DECLARED)
    (finding,) = verdict.findings
    assert finding.rule.id == rule
    assert words in finding.what
    assert verdict.complete is (rule != "not-checked"), "what was not seen is never clean"


@pytest.mark.parametrize("case", FLAGS)
def test_each_flag_gives_only_its_finding(case: str) -> None:
    given, rule, words = FLAGS[case]
    (finding,) = judge(CLEAN, given, GOOD, DECLARED).findings
    assert finding.rule.id == rule
    assert words in finding.what


def test_image_that_nobody_vouches_for_is_never_verified() -> None:
    for state, rule in ((ImageState.DIFFERS, "image-differs"), (ImageState.UNKNOWN, "image-unverified")):
        (finding,) = judge(CLEAN, GIVEN, ImageVerdict(state=state, why="the reason"), DECLARED).findings
        assert (finding.rule.id, finding.what) == (rule, "the reason")


def test_every_watch_rule_is_planted_with_reason_and_advice() -> None:
    from buildkit.audit import running_watch_rules as watched

    rules = {rule.id: rule for rule in vars(watched).values() if isinstance(rule, Rule)}
    planted = {rule for _, rule, _ in (*SEEN.values(), *FLAGS.values())} | {"image-differs", "image-unverified"}
    assert set(rules) <= planted
    assert all(rule.why and rule.advice for rule in rules.values())


def test_peers_and_what_was_asked_for_are_no_way_out() -> None:
    beside = replace(DECLARED, peers=frozenset({"10.90.0.7"}))
    assert judge(connected("10.90.0.7"), GIVEN, GOOD, beside).findings == ()
    assert judge(connected("10.90.0.1"), GIVEN, GOOD, beside).findings, "the host, in the network of its services"
    opened = replace(SPEC, running=Running(outgoing=True))
    assert judge(connected("203.0.113.9"), GIVEN, GOOD, replace(DECLARED, spec=opened)).findings == ()
    exposed = replace(DECLARED, exposed=("9000/tcp",))
    assert judge(connected("10.90.0.7", port=9000), GIVEN, GOOD, exposed).findings == (), "others opened it"


def test_exceptions_of_services_are_accepted_with_their_reasons_and_nothing_else_is() -> None:
    reasons = {"capability:NET_RAW": "it pings", "executable:/tmp": "it compiles", "new-privileges": "it has ping"}
    declared = replace(DECLARED, spec=replace(SPEC, exceptions=tuple(reasons)), reasons=reasons)
    compiled = RunningCode(how="library", path="/tmp/made.so", place="mount", mount="/tmp", kind="tmpfs", writable=True)
    seen = status("CapPrm:\t0000000000000000", "CapPrm:\t0000000000003000")
    seen = replace(
        seen,
        processes=(replace(seen.processes[0], no_new_privileges=False),),
        mounts=parse_mounts(observed.MOUNTS.replace("/tmp rw,nosuid,nodev,noexec", "/tmp rw,nosuid,nodev")),
        code=(compiled, replace(compiled, path="/var/tmp/made.so", mount="/var/tmp")),
    )
    verdict = judge(seen, GIVEN, GOOD, declared)
    found = {(finding.rule.id, finding.what.partition(": ")[2] or finding.what) for finding in verdict.findings}
    assert {rule for rule, _ in found} == {"process-capabilities", "code-from-writable"}
    assert ("process-capabilities", "net_admin") in found, "only net_raw is granted"
    accepted = {(finding.rule.id, why) for finding, why in verdict.accepted}
    assert accepted == {
        ("process-capabilities", "it pings (services.toml)"),
        ("code-from-writable", "it compiles (services.toml)"),
        ("executable-place", "it compiles (services.toml)"),
        ("new-privileges", "it has ping (services.toml)"),
    }


def test_acceptances_of_audit_toml_and_a_gpus_driver_are_set_aside() -> None:
    text = '[[accept]]\nrule = "code-in-memory"\npath = "memfd:libffi*"\nreason = "callbacks; reviewed"\n'
    declared = replace(DECLARED, acceptances=parse_acceptances(text, "stages/app/audit.toml"))
    seen = code("library", "/memfd:libffi", "memory")
    verdict = judge(seen, GIVEN, GOOD, declared)
    assert verdict.findings == ()
    assert [why for _, why in verdict.accepted] == ["callbacks; reviewed (stages/app/audit.toml)"]
    assert judge(code("library", "/memfd:other", "memory"), GIVEN, GOOD, declared).findings
    driver = code("library", "/usr/lib/libcuda.so.1", "mount", mount="/usr/lib/libcuda.so.1")
    asks = replace(DECLARED, spec=replace(SPEC, gpu=GpuRequest(count=1)))
    assert judge(driver, GIVEN, GOOD, asks).findings == ()
    writable = replace(driver, code=(replace(driver.code[1], writable=True),))
    assert judge(writable, GIVEN, GOOD, asks).findings, "nobody may write to the driver"


def test_names_with_line_ends_stay_on_one_line_and_many_findings_are_counted() -> None:
    (finding,) = judge(code("program", "/usr/bin/e\nvil\x1b[2J", "written"), GIVEN, GOOD, DECLARED).findings
    assert (finding.what + finding.path).isprintable()
    many = tuple(RunningCode(how="library", path=f"/opt/{n}.so", place="written") for n in range(1000))
    findings = judge(replace(CLEAN, code=many), GIVEN, GOOD, DECLARED).findings
    assert len(findings) == 101
    assert "900 more" in findings[-1].what


def test_podmans_own_files_are_no_findings() -> None:
    init = code("program", "/run/podman-init", "mount", mount="/run/podman-init")
    assert judge(init, GIVEN, GOOD, DECLARED).findings == ()
    hosts = "1 2 0:1 / /etc/hosts rw,relatime - ext4 /dev/x rw"
    writable = replace(DECLARED, spec=replace(SPEC, exceptions=("writable-root",)), reasons={"writable-root": "old"})
    root = parse_mounts(observed.MOUNTS.replace("/ / ro,", "/ / rw,"))
    seen = replace(CLEAN, mounts=(*root, *parse_mounts(hosts)))
    verdict = judge(seen, GIVEN, GOOD, writable)
    assert verdict.findings == ()
    assert [finding.rule.id for finding, _ in verdict.accepted] == ["root-writable"]


def test_description_of_podman_is_read() -> None:
    described = {
        "Id": "a" * 64, "Name": "x", "State": {"Pid": 7}, "Image": "sha256:" + "b" * 64,
        "ImageName": "localhost/x/app:latest",
        "OCIConfigPath": "/c.json", "HostConfig": {"Privileged": True, "Devices": [{"PathOnHost": "/dev/kvm"}]},
        "Config": {"Labels": {"org.xoe.buildkit.project": "x"}},
        "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "", "HostPort": "1"}], "9/udp": None}},
        "Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/b"}, {"Type": "volume", "Source": "/v"}],
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": "/u/diff", "LowerDir": "/l1/diff:/l2/diff"}},
    }  # fmt: skip
    one = parse_described(described)
    assert (one.pid, one.image, one.exposed) == (7, "b" * 64, ("8000/tcp", "9/udp"))
    assert one.layers == ("/u/diff", "/l1/diff", "/l2/diff")
    assert one.flags == GivenFlags(
        privileged=True, published=(("8000/tcp", ""),), devices=("/dev/kvm",), sources=(("/a", "/b"),)
    )
    assert parse_described({**described, "GraphDriver": {"Name": "vfs", "Data": None}}).layers == ()


def test_filters_of_a_runtime_and_of_podman_compare() -> None:
    ours = {"syscalls": [{"names": ["read", "clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1}]}]}
    runtime = {"linux": {"seccomp": {**ours, "defaultAction": "SCMP_ACT_ERRNO"}}}
    assert parse_runtime_calls(json.dumps(runtime)) == parse_calls(ours)
    assert parse_runtime_calls("{}") == frozenset()
    assert ("*", "") in parse_calls({"defaultAction": "SCMP_ACT_ALLOW"})
    for text in ("[]", "x", '{"linux": [1]}', '{"linux": {"seccomp": {"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}}}'):
        with pytest.raises(ValueError):
            parse_runtime_calls(text)


def test_severities_say_what_is_worst() -> None:
    (finding,) = judge(CLEAN, FLAGS["privileged"][0], GOOD, DECLARED).findings
    assert finding.severity is Severity.CRITICAL
