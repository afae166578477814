"""The seccomp profile: its table is complete, and the kernel answers as the table says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from buildkit.running.seccomp import ALLOWED, ENOSYS, EPERM, PROFILE, REFUSED, render_seccomp

PODMANS = Path("/usr/share/containers/seccomp.json")
# calls that only 32-bit or other processors have, or that no kernel of this century has
ABSENT = re.compile(
    r".*(?:32|64|_time64|_old)|old.*|arm_.*|s390_.*|pciconfig_.*|vm86.*|_llseek|_newselect|bdflush|breakpoint|cacheflush"
    r"|ipc|mmap2|nice|readdir|recv|send|set_tls|sgetmask|sigaction|signal|sigpending|sigprocmask|sigreturn|sigsuspend"
    r"|socketcall|ssetmask|stime|swapcontext|sync_file_range2|syscall|timerfd|ugetrlimit|waitpid"
)


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(render_seccomp())["syscalls"]
    return found


def test_shipped_profile_is_the_rendered_one() -> None:
    assert PROFILE.read_text("utf-8") == render_seccomp(), "write render_seccomp() to it"


def test_each_call_stands_in_one_place() -> None:
    allowed = [call for calls in ALLOWED.values() for call in calls.split()]
    refused = [call for group in REFUSED for call in group.calls.split()]
    assert len({*allowed, *refused}) == len(allowed) + len(refused)
    assert not {"clone", "socket", "personality"} & {*allowed, *refused}, "these depend on their arguments"


def test_what_no_rule_names_does_not_exist() -> None:
    profile = json.loads(render_seccomp())
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", ENOSYS)
    assert {rule["action"] for rule in profile["syscalls"]} == {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}
    assert {rule["errnoRet"] for rule in profile["syscalls"] if "errnoRet" in rule} == {EPERM, ENOSYS}
    assert [arch["subArchitectures"] for arch in profile["archMap"]] == [[], []]


@pytest.mark.skipif(not PODMANS.is_file(), reason="podman's own profile is not installed")
def test_every_call_of_podmans_profile_is_decided() -> None:
    podmans = json.loads(PODMANS.read_text("utf-8"))["syscalls"]
    ours = {name for rule in rules() for name in rule["names"]}
    undecided = {name for rule in podmans for name in rule["names"]} - ours
    assert sorted(name for name in undecided if not ABSENT.fullmatch(name)) == []
    always = {
        name
        for rule in podmans
        if rule["action"] == "SCMP_ACT_ERRNO" and not rule.get("args")
        for name in rule["names"]
    }
    allowed = {name for calls in ALLOWED.values() for name in calls.split()}
    assert allowed & always <= {"io_pgetevents"}, "nothing is allowed that podman refuses"
