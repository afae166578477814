"""The seccomp profile, tried call by call by the kernel, from inside a container of a shipping image."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import platform
import signal
from typing import Any

import pytest

from buildkit.running.seccomp import ENOSYS, PROFILE, REFUSED
from tests.reference.conftest import Project
from tests.reference.engine import CONFINED, Podman

pytestmark = [pytest.mark.tools, pytest.mark.network]

# the answers of the kernel to each call with absurd arguments, and to sockets, namespaces and the 32-bit ABI
PROBE = """
import ctypes, errno, json, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result == 0 and number == clone:
        os._exit(0)
    return ctypes.get_errno() if result == -1 else 0

def open_socket(family, kind, protocol):
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        return error.errno
    return 0

numbers, clone = json.loads(sys.argv[1]), json.loads(sys.argv[2])
found = {name: call(number, *[-1] * 6) for name, number in numbers.items()}
flags = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "cgroup": 0x2000000}
found |= {f"clone {name}": call(clone, flag | 17, 0, 0, 0, 0) for name, flag in flags.items()}
sockets = {
    "route": (16, 3, 0), "audit": (16, 3, 9), "netfilter": (16, 3, 12), "generic netlink": (16, 3, 16),
    "packet": (17, 3, 0), "crypto": (38, 5, 0), "vsock": (40, 1, 0), "unix": (1, 1, 0), "internet": (2, 1, 0),
}
found |= {f"socket {name}": open_socket(*values) for name, values in sockets.items()}
abi = '''
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("53b814000000cd805bc3"))  # the 32-bit getpid
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
'''
found["32-bit"] = subprocess.run([sys.executable, "-c", abi]).returncode
print(json.dumps(found))
"""
NATIVE = {"x86_64": 56, "aarch64": 220}  # clone


def find_numbers() -> dict[str, int]:
    """Return the numbers of the refused calls that this kernel's ABI has, by libseccomp."""
    library = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    names = [name for group in REFUSED for name in group.calls.split()]
    found = {name: int(library.seccomp_syscall_resolve_name(name.encode())) for name in names}
    return {name: number for name, number in found.items() if number >= 0}


def probe(podman: Podman, image: str, profile: str) -> dict[str, int]:
    options = ("--network=none", *CONFINED[:-1], f"--security-opt=seccomp={profile}")
    values = json.dumps(find_numbers()), json.dumps(NATIVE[platform.machine()])
    found: dict[str, Any] = json.loads(podman("run", "--rm", *options, image, "python", "-c", PROBE, *values))
    return found


@pytest.fixture(scope="module")
def answers(project: Project, podman: Podman) -> dict[str, int]:
    return probe(podman, project.images["runtime"], str(PROFILE))


def test_every_refused_call_is_answered_as_the_table_says(answers: dict[str, int]) -> None:
    known = find_numbers()
    assert len(known) > 60
    expected = {name: group.errno for group in REFUSED for name in group.calls.split() if name in known}
    assert {name: answers[name] for name in expected} == expected


def test_namespaces_and_most_sockets_do_not_exist(answers: dict[str, int]) -> None:
    made = {name for name, answer in answers.items() if name.startswith(("clone ", "socket ")) and answer == 0}
    assert made == {"socket route", "socket unix", "socket internet"}
    others = {answers[name] for name in answers if name.startswith(("clone ", "socket ")) and name not in made}
    assert others == {ENOSYS}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is of that processor")
def test_calls_of_the_32_bit_abi_end_the_process(answers: dict[str, int]) -> None:
    assert answers["32-bit"] == -signal.SIGSYS


def test_the_probes_tell_the_profile_from_none(answers: dict[str, int], project: Project, podman: Podman) -> None:
    free = probe(podman, project.images["runtime"], "unconfined")
    same = {name for name, answer in answers.items() if free[name] == answer}
    telling = {
        "unshare", "setns", "clone3", "ptrace", "process_vm_readv", "mount_setattr", "open_tree", "keyctl", "add_key",
        "memfd_create", "execveat", "io_uring_setup", "mbind", "vmsplice", "name_to_handle_at",
        "clone user", "socket audit", "socket netfilter",
    }  # fmt: skip
    assert same & telling == set()
