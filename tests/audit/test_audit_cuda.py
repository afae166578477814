"""What the audit tells of CUDA and of what start scripts have the linker load."""

from __future__ import annotations

import json

from buildkit.audit.view import ImageOrigin
from buildkit.findings import Finding, Severity
from buildkit.report.findings_table import findings_json
from buildkit.report.sarif import SarifRun, sarif_log
from tests.audit.crafted import Member, audit, env, file, link
from tests.native.elfmaker import make_elf

SITE = "opt/venv/lib/python3.13/site-packages"
ELF = make_elf()
ASKS = ImageOrigin(asks_for_gpu=True, driver=">=570")
OLD = "it is older than 570, the oldest driver that [gpu] allows"
TITLE = "nvidia-cuda-runtime-cu12 12.8.90 (CUDA 12.8)"
RUNTIME = file(f"{SITE}/nvidia_cuda_runtime_cu12-12.8.90.dist-info/METADATA")


def found(findings: tuple[Finding, ...], rule: str) -> list[tuple[Severity, str, str]]:
    return [(one.severity, one.path, one.what) for one in findings if one.rule.id == rule]


def compat(version: str = "550.54.14") -> list[Member]:
    folder = "usr/local/cuda/compat"
    return [file(f"{folder}/libcuda.so.{version}", ELF), link(f"{folder}/libcuda.so.1", f"libcuda.so.{version}")]


def test_cuda_needs_no_driver_where_no_gpu_is_asked_for_and_fits_where_it_is() -> None:
    assert found(audit([RUNTIME]), "cuda-driver") == []
    assert found(audit([RUNTIME], origin=ASKS), "cuda-driver") == []


def test_a_request_that_names_no_driver_is_told_which() -> None:
    (note,) = found(audit([RUNTIME], origin=ImageOrigin(asks_for_gpu=True)), "cuda-driver")
    assert note == (
        Severity.NOTE,
        "config: gpu",
        f'{TITLE} needs driver 525.60.13, and [gpu] names none: driver = ">=525.60.13"',
    )


def test_compat_library_is_worse_where_the_linker_finds_it() -> None:
    path = "usr/local/cuda/compat/libcuda.so.550.54.14"
    searched = env("LD_LIBRARY_PATH=/usr/local/cuda/compat")
    assert found(audit(compat()), "cuda-compat") == []
    assert found(audit(compat(), origin=ASKS), "cuda-compat") == [
        (Severity.LOW, path, f"{OLD}: no search path has it, so it is dead weight")
    ]
    assert found(audit(compat(), config=searched), "cuda-compat") == [
        (Severity.MEDIUM, path, "it is of driver 550.54.14: the linker finds it before the host's"),
    ]
    assert found(audit(compat(), config=searched, origin=ASKS), "cuda-compat") == [
        (Severity.HIGH, path, f"{OLD}: the linker finds it before the host's")
    ]
    assert found(audit(compat("580.65.06"), origin=ASKS), "cuda-compat") == []


def test_compat_library_is_found_through_the_linkers_settings() -> None:
    conf = [file("etc/ld.so.conf.d/cuda.conf", b"/usr/local/cuda/compat\n"), file("etc/ld.so.cache", b"x")]
    more = [file("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")]
    assert [severity for severity, *_ in found(audit([*compat(), *conf, *more]), "cuda-compat")] == [Severity.MEDIUM]


def test_hooks_find_a_library_through_a_search_path_that_leads_into_the_image() -> None:
    there = [file("evil/libc.so.6", ELF)]
    for path in ("evil", "./evil", "/proc/self/cwd/evil", "/usr/lib:/proc/thread-self/root/evil"):
        (one,) = found(audit(there, config=env(f"LD_LIBRARY_PATH={path}")), "hook-escape")
        assert one == (
            Severity.CRITICAL, "config: LD_LIBRARY_PATH", f"LD_LIBRARY_PATH={path} leads to evil/libc.so.6",
        )  # fmt: skip
    assert found(audit([file("libc.so.6", ELF)], config=env("LD_LIBRARY_PATH=/usr/lib:")), "hook-escape")
    for path in ("/usr/local/cuda/lib64:", "nothing", "/evil"):  # a slip, or a path of the host
        assert found(audit(there, config=env(f"LD_LIBRARY_PATH={path}")), "hook-escape") == []


def test_an_allocator_by_its_absolute_path_is_no_escape() -> None:
    there = [file("usr/lib/libjemalloc.so.2", ELF)]
    findings = audit(there, config=env("LD_PRELOAD=/usr/lib/libjemalloc.so.2"))
    assert found(findings, "hook-escape") == []
    assert [severity for severity, *_ in found(findings, "preload")] == [Severity.MEDIUM]


def test_start_script_is_read_for_what_the_linker_loads() -> None:
    script = b"""#!/bin/sh
# LD_PRELOAD=/not/this.so
export LD_PRELOAD="/usr/lib/x.so"
LD_LIBRARY_PATH=/srv/lib:$LD_LIBRARY_PATH exec "$@"
LD_AUDIT= true
"""
    config = {"Entrypoint": ["/srv/start.sh", "python3"]}
    findings = audit([file("srv/start.sh", script, 0o755)], config=config)
    assert found(findings, "preload") == [
        (Severity.MEDIUM, "srv/start.sh", "sets LD_PRELOAD=/usr/lib/x.so for what it starts")
    ]
    assert found(findings, "library-path") == [
        (Severity.LOW, "srv/start.sh", "sets LD_LIBRARY_PATH=/srv/lib:$LD_LIBRARY_PATH for what it starts")
    ]
    assert all(one.layer for one in findings if one.path == "srv/start.sh")


def test_start_script_is_found_by_path_and_by_folder() -> None:
    script = file("app/run.sh", b"#!/bin/sh\nexport LD_AUDIT=/x.so\n", 0o755)
    assert found(audit([script], config={"Cmd": ["./run.sh"]}), "preload")
    there = file("opt/venv/bin/run.sh", script.data, 0o755)
    assert found(audit([there], config={"Cmd": ["run.sh"]}), "preload")
    assert not found(audit([file("opt/other/run.sh", script.data)], config={"Cmd": ["run.sh"]}), "preload")


def test_command_line_of_a_shell_is_read_too() -> None:
    config = {"Cmd": ["/bin/sh", "-c", "LD_PRELOAD=/x.so; export LD_PRELOAD; exec python3 main.py"]}
    assert found(audit(config=config), "preload") == [
        (Severity.MEDIUM, "config: command", "sets LD_PRELOAD=/x.so for what it starts")
    ]


def test_findings_are_in_json_and_sarif_with_reason_and_reference() -> None:
    findings = audit(compat(), config=env("LD_PRELOAD=./poc.so"), origin=ASKS)
    rules = {one["rule"]: one["severity"] for one in findings_json(findings)}
    assert rules["hook-escape"] == "critical"
    assert rules["cuda-compat"] == "low"
    log = sarif_log(findings, SarifRun.of("audit", subject="x", inside=True))
    known = {rule["id"]: json.dumps(rule) for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    assert "CVE-2025-23266" in known["hook-escape"]
    assert "cuda-compat" in known
