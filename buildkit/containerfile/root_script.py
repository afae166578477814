"""The script that makes a Debian root in a build stage as the project itself does (``layers.root.pack``)."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from buildkit.containerfile.find_expression import render_find
from buildkit.declare.apt_sources import FILE_NAME
from buildkit.declare.stage import Debian, User
from buildkit.plan.spec import MakeRoot
from buildkit.shell import load_script

ROOT = "/rootfs"
SOURCES = f"/tmp/{FILE_NAME}"  # noqa: S108 - of the build stage

_ROLLING = ("sid", "unstable", "experimental")

_HEAD = f"""\
#!/bin/sh
# Makes a Debian root of exact versions in {ROOT}. mmdebstrap may warn that it cannot mount: a container may not, and
# these packages do not need it.
set -eu
"""


def render_root_script(work: MakeRoot, arch: str, packages: str, *, bytecode: bool) -> str:
    """Return a script for /bin/sh that makes the root in ``/rootfs``; ``packages`` is the path of the list of pins."""
    debian = work.debian
    parts = [
        _HEAD,
        _mmdebstrap(work, arch, packages, bytecode=bytecode),
        f"cd {ROOT}\n",
        load_script("remove_volatile"),
        load_script("add_accounts"),
        *map(_account, debian.users),
        load_script("bundle_certificates"),
        _exclude(debian.exclude),
        load_script("keep_sums") if debian.variant == "extract" else "",
        load_script("link_python"),
        *map(_home, debian.users),
        _drop_setuid() if debian.drop_setuid else "",
    ]
    return "\n".join(filter(None, parts))


def _mmdebstrap(work: MakeRoot, arch: str, packages: str, *, bytecode: bool) -> str:
    debian = work.debian
    extract = debian.variant == "extract"
    lines = [
        "# shellcheck disable=SC2016 # the hooks are scripts of their own, and $1 is theirs\nmmdebstrap --mode=root",
        f"--variant={'extract' if extract else 'custom'}",
        f"--architectures={arch}",
        f"--components={shlex.quote(','.join(debian.components))}",
        f"--include=\"$(grep -v '^#' {packages} | paste -sd, -)\"",
        *([f"--extract-hook='\n{_hook('record_packages')}    '"] if extract else ()),
        *([f"--{'extract' if extract else 'customize'}-hook='\n{_hook('compile_library')}    '"] if bytecode else ()),
        f'{debian.suite} {ROOT} "$@"',
    ]
    archives = f"set -- {SOURCES}\n" if work.sources else _snapshot(debian)
    return archives + " \\\n    ".join(lines) + "\n"


def _snapshot(debian: Debian) -> str:
    """Render the optional use of snapshot.debian.org, for versions that the archive has dropped."""
    suites = [("debian", debian.suite)]
    if debian.suite not in _ROLLING:
        suites += [("debian", f"{debian.suite}-updates"), ("debian-security", f"{debian.suite}-security")]
    components = " ".join(debian.components)
    mirrors = [
        f'    "deb [check-valid-until=no] http://snapshot.debian.org/archive/{archive}/$SNAPSHOT {suite} {components}"'
        for archive, suite in suites
    ]
    return 'set --\n[ -z "${SNAPSHOT:-}" ] || set -- \\\n' + " \\\n".join(mirrors) + "\n"


def _hook(name: str) -> str:
    return textwrap.indent(load_script(name), "    ")


def _account(user: User) -> str:
    passwd = shlex.quote(f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:{user.shell}")
    return (
        f"grep -qxF {passwd} etc/passwd || {{\n"
        f"    echo {passwd} >>etc/passwd\n"
        f"    echo '{user.name}:!::0:99999:7:::' >>etc/shadow\n"
        "}\n"
        f"grep -q '^[^:]*:[^:]*:{user.gid}:' etc/group || {{\n"
        f"    echo '{user.name}:x:{user.gid}:' >>etc/group\n"
        f"    [ ! -e etc/gshadow ] || echo '{user.name}:!::' >>etc/gshadow\n"
        "}\n"
    )


def _home(user: User) -> str:
    home = user.home.strip("/")
    if home in ("", "nonexistent"):  # Debian's convention for a user without a home
        return ""
    quoted = shlex.quote(home)
    return f"[ -e {quoted} ] || install -d -m 0750 -o {user.uid} -g {user.gid} {quoted}\n"


def _exclude(patterns: tuple[str, ...]) -> str:
    if not (expression := render_find(patterns)):
        return ""
    wrapped = expression.replace(" -o ", " -o \\\n    ")
    return (
        "# left out; folders where nothing is left in them\n"
        f'left_out() {{ find . -regextype posix-extended -depth "$@" \\( \\\n    {wrapped} \\) -delete; }}\n'
        "left_out ! -type d\nleft_out -type d -empty\n"
    )


def _drop_setuid() -> str:
    return (
        "# nothing that gives a process more rights than its caller has\n"
        "find . -type f -perm /6000 -exec chmod ug-s {} +\n"
        "getcap -r . | sed 's/ [^ ]*$//' | while IFS= read -r file; do setcap -r \"$file\"; done\n"
    )


def root_tools(work: MakeRoot) -> Iterator[str]:
    """Yield the Debian packages that the script needs."""
    yield "mmdebstrap"
    if work.debian.drop_setuid:
        yield "libcap2-bin"
