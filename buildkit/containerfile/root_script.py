"""The script that makes a Debian root in a build stage as the project itself does (``layers.root.pack``)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from buildkit.containerfile.find_expression import render_find
from buildkit.declare.stage import Debian, User
from buildkit.plan.spec import MakeRoot

ROOT = "/rootfs"

_ROLLING = ("sid", "unstable", "experimental")

_HEAD = f"""\
#!/bin/sh
# Makes a Debian root of exact versions in {ROOT}. mmdebstrap may warn that it cannot mount: a container may not, and
# these packages do not need it.
set -eu
"""
# dpkg writes no records in this variant: scanners look for them here
_RECORD = """\
    mkdir -p "$1/var/lib/dpkg/status.d"
    for deb in "$1"/var/cache/apt/archives/*.deb; do
        dpkg-deb --field "$deb" > "$1/var/lib/dpkg/status.d/$(dpkg-deb --field "$deb" Package)" || exit 1
    done
"""
_VOLATILE = """\
# nothing of the build, its hour or its machine
for folder in dev proc sys; do [ ! -d "$folder" ] || find "$folder" -mindepth 1 -delete; done
for folder in run tmp var/tmp var/log var/backups var/cache/apt var/cache/ldconfig var/lib/apt/lists; do
    [ ! -d "$folder" ] || find "$folder" ! -type d -delete
done
rm -rf etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock \\
    var/cache/apt/archives/partial var/cache/debconf/*-old var/lib/apt/extended_states var/lib/apt/lists/partial \\
    var/lib/dbus/machine-id var/lib/dpkg/*-old var/lib/dpkg/lock* var/lib/dpkg/triggers/Lock
find . -path './usr/lib/python3.*' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
for file in etc/hostname etc/hosts etc/resolv.conf; do rm -f "$file" && install -m 0644 /dev/null "$file"; done
[ ! -e etc/machine-id ] || install -m 0644 /dev/null etc/machine-id
"""
_BARE = """\
# accounts, where no package's script made any
[ -e etc/passwd ] || printf '%s\\n' root:x:0:0:root:/root:/usr/sbin/nologin \\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin >etc/passwd
[ -e etc/group ] || printf '%s\\n' root:x:0: nogroup:x:65534: >etc/group
[ -e etc/shadow ] || (umask 077 && printf '%s\\n' 'root:*::0:99999:7:::' 'nobody:*::0:99999:7:::' >etc/shadow)
sed -i 's/^\\([^:]*:[^:]*\\):[^:]*/\\1:/' etc/shadow  # no day of a last change
"""
_CERTIFICATES = """\
# certificates, where no package's script bundled them
bundle=etc/ssl/certs/ca-certificates.crt
if [ -d usr/share/ca-certificates ] && [ ! -e "$bundle" ]; then
    mkdir -p etc/ssl/certs
    find usr/share/ca-certificates -name '*.crt' | LC_ALL=C sort | xargs awk 1 >"$bundle"
fi
"""
_PYTHON = """\
# python3, which else comes with a package that needs dpkg
newest=$(find usr/bin -name 'python3.[0-9]*' ! -name '*-*' -printf '%f\\n' | sort -V | tail -n 1)
if [ -n "$newest" ] && [ ! -e usr/bin/python3 ]; then
    ln -s "$newest" usr/bin/python3
fi
"""


def render_root_script(work: MakeRoot, arch: str, packages: str, *, bytecode: bool) -> str:
    """Return a script for /bin/sh that makes the root in ``/rootfs``; ``packages`` is the path of the list of pins."""
    debian = work.debian
    parts = [
        _HEAD,
        _mmdebstrap(work, arch, packages, bytecode=bytecode),
        f"cd {ROOT}\n",
        _VOLATILE,
        _BARE,
        *map(_account, debian.users),
        _CERTIFICATES,
        _exclude(debian.exclude),
        _PYTHON,
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
        *([f"--extract-hook='\n{_RECORD}    '"] if extract else ()),
        *([f"--{'extract' if extract else 'customize'}-hook='\n{_compile()}    '"] if bytecode else ()),
        f'{debian.suite} {ROOT} "$@"',
    ]
    return _snapshot(debian) + " \\\n    ".join(lines) + "\n"


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


def _compile() -> str:
    """Render the compilation of the standard library, with unchecked hashes: start-up is several times faster."""
    return (
        '    for python in "$1"/usr/bin/python3.*; do\n'
        "        name=${python##*/}\n"
        "        case ${name#python3.} in *[!0-9]*) continue ;; esac\n"
        '        env -i PYTHONHASHSEED=0 PATH=/usr/bin:/usr/sbin chroot "$1" "/usr/bin/$name" -s -S -m compileall \\\n'
        '            -q -f --invalidation-mode unchecked-hash "/usr/lib/$name" || exit 1\n'
        "    done\n"
    )


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
