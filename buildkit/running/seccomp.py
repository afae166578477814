"""The system calls that a container may make: the table, and the seccomp profile made from it.

The profile is an allow-list in the JSON format that podman, Docker, CRI-O and containerd read (it began as
https://github.com/moby/profiles). What is neither allowed nor refused by name answers ENOSYS, as if the kernel lacked
it, so that programs use an older call instead. It differs from podman's own profile by ``REFUSED``, by the families of
sockets, and in that only calls of the processor's own ABI exist: no 32-bit calls on a 64-bit kernel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).with_name("seccomp.json")  # what `render_seccomp` returns, for podman to read
EPERM, ENOSYS = 1, 38

ALLOWED = {
    "files": """
        access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
        fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync flock fstat fstatfs fsync ftruncate
        futimesat getcwd getdents getdents64 ioctl lchown link linkat lseek lstat mkdir mkdirat mknod mknodat newfstatat
        open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
        rename renameat renameat2 rmdir sendfile splice stat statfs statx symlink symlinkat sync sync_file_range syncfs
        tee truncate umask unlink unlinkat utime utimensat utimes write writev cachestat""",
    "attributes of files": """
        fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr
        removexattr setxattr""",
    "events": """
        epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 inotify_add_watch
        inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll pselect6 select signalfd signalfd4
        timerfd_create timerfd_gettime timerfd_settime""",
    "memory": """
        brk get_mempolicy madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mprotect mremap mseal
        msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages""",
    "processes and threads": """
        arch_prctl execve exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list
        get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get
        ioprio_set kill pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_get_priority_max
        sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_thread_area
        set_tid_address setpgid setpriority setrlimit setsid sysinfo tgkill times tkill uname vfork wait4 waitid""",
    "signals": """
        alarm getitimer pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_tgsigqueueinfo setitimer sigaltstack""",
    "accounts": """
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups
        setregid setresgid setresuid setreuid setuid getrandom""",
    "times": """
        adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time timer_create
        timer_delete timer_getoverrun timer_gettime timer_settime""",
    "sockets": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
        sendto setsockopt shutdown socketpair""",
    "shared memory and messages": """
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget
        semop semtimedop shmat shmctl shmdt shmget""",
    "asynchronous files": "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit",
    "a process that confines itself": "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCalls:
    """System calls that are refused by name, and why; ``errno`` is what they answer."""

    what: str
    why: str
    calls: str
    errno: int = EPERM


REFUSED = (
    RefusedCalls(
        what="namespaces",
        why="in a user namespace of its own, an ordinary user reaches kernel code that is root's otherwise",
        calls="unshare setns",  # and clone with their flags, below
    ),
    RefusedCalls(
        what="clone3",
        why="a filter cannot read its flags, which are in memory; the C library falls back to clone",
        calls="clone3",
        errno=ENOSYS,
    ),
    RefusedCalls(
        what="other processes' memory",
        why="one service in a container has nothing to debug",
        calls="ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd",
    ),
    RefusedCalls(
        what="mounts",
        why="the file systems are the runtime's",
        calls="""
            chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root
            umount umount2 listmount statmount""",
    ),
    RefusedCalls(
        what="kernel keys",
        why="keyrings do not belong to a container: they are the user's, on the whole host",
        calls="add_key keyctl request_key",
    ),
    RefusedCalls(
        what="programs without a file",
        why="with every writable folder mounted noexec, an unnamed file would be the way to run a program of one's own",
        calls="memfd_create memfd_secret execveat",
        errno=ENOSYS,
    ),
    RefusedCalls(
        what="bpf and tracing",
        why="large interfaces of the kernel that a service does not use",
        calls="bpf perf_event_open lookup_dcookie fanotify_init fanotify_mark",
    ),
    RefusedCalls(
        what="io_uring",
        why="its requests do not pass this filter",
        calls="io_uring_enter io_uring_register io_uring_setup",
        errno=ENOSYS,
    ),
    RefusedCalls(
        what="page faults and pages",
        why="they make races in the kernel easy to win, or move the memory of others",
        calls="userfaultfd vmsplice mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    ),
    RefusedCalls(
        what="files by handle",
        why="a handle reaches files outside the container's folders",
        calls="name_to_handle_at open_by_handle_at",
    ),
    RefusedCalls(
        what="the machine",
        why="modules, clocks, swap, accounting, host names and devices are the host's",
        calls="""
            acct clock_settime delete_module finit_module init_module ioperm iopl kexec_file_load kexec_load modify_ldt
            nfsservctl query_module quotactl quotactl_fd reboot setdomainname sethostname settimeofday swapoff swapon
            syslog sysfs uselib ustat vhangup""",
    ),
)

_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; clone has no NEWTIME
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_ROUTE = 0  # of netlink, the protocol by which the C library lists network addresses
_ASK = 0xFFFFFFFF  # personality(2): only return the present one


def render_seccomp() -> str:
    """Return the profile as JSON, the same for every stage and host; it holds x86-64 and AArch64."""
    processors = [{"architecture": f"SCMP_ARCH_{name}", "subArchitectures": []} for name in ("X86_64", "AARCH64")]
    head = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": ENOSYS, "archMap": processors}
    lines = ",\n".join(json.dumps(rule) for rule in _rules())
    return f'{json.dumps(head)[:-1]}, "syscalls": [\n{lines}\n]}}\n'


def _rules() -> Iterator[dict[str, Any]]:
    for comment, calls in ALLOWED.items():
        yield _allow(calls, comment)
    yield _allow("clone", "threads and processes, without namespaces", (0, "MASKED_EQ", _NAMESPACE_FLAGS, 0))
    for family in (_UNIX, _INET, _INET6):
        yield _allow("socket", "local and internet sockets", (0, "EQ", family, 0))
    yield _allow("socket", "netlink, to list addresses", (0, "EQ", _NETLINK, 0), (2, "EQ", _ROUTE, 0))
    for personality in (0, _ASK):
        yield _allow("personality", "the usual one", (0, "EQ", personality, 0))
    for group in REFUSED:
        yield {
            "names": sorted(group.calls.split()),
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": group.errno,
            "comment": f"{group.what}: {group.why}",
        }


def _allow(calls: str, comment: str, *conditions: tuple[int, str, int, int]) -> dict[str, Any]:
    """Return a rule; all of its conditions (argument, comparison and its two values) must hold."""
    rule: dict[str, Any] = {"names": sorted(calls.split()), "action": "SCMP_ACT_ALLOW", "comment": comment}
    if conditions:
        rule["args"] = [
            {"index": index, "op": f"SCMP_CMP_{operation}", "value": value, "valueTwo": second}
            for index, operation, value, second in conditions
        ]
    return rule
