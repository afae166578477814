"""Images as mappings of paths, through the same collector as real layers."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit.findings import Finding
from buildkit.native.check import check_native
from buildkit.native.collector import NativeCollector
from buildkit.native.facts import NativeFacts, NativeView, merge_layers
from tests.native.elfmaker import make_elf

TRIXIE = b'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\nID=debian\n'
LIB = "usr/lib/x86_64-linux-gnu"
SITE = "opt/venv/lib/python3.13/site-packages"
LINKER = "/lib64/ld-linux-x86-64.so.2"
GLIBC = ("GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.36")
Content = bytes | str | None
"""The bytes of a file, the target of a link, or None for a path that a whiteout removes."""


def survey(content: Mapping[str, Content]) -> NativeFacts:
    """Return the facts of a layer with these members."""
    found = NativeCollector()
    for path, what in content.items():
        if isinstance(what, str):
            found.add_link(path, what)
        elif what is None:
            folder, _, name = path.rpartition("/")
            found.add_file(f"{folder}/.wh.{name}", 0, ())
        else:
            found.add_file(path, len(what), iter((what,)))
    return found.facts()


def root(**more: Content) -> dict[str, Content]:
    """Return a small Debian root: libc, its linker, Python, and ``more`` files in the library folder."""
    return {
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "bin": "usr/bin",
        "etc/os-release": "../usr/lib/os-release",
        "usr/lib/os-release": TRIXIE,
        "usr/lib64/ld-linux-x86-64.so.2": f"/{LIB}/ld-linux-x86-64.so.2",
        f"{LIB}/ld-linux-x86-64.so.2": make_elf(soname="ld-linux-x86-64.so.2"),
        f"{LIB}/libc.so.6": make_elf(soname="libc.so.6", defines=GLIBC, interpreter=LINKER),
        "usr/bin/python3.13": make_elf(needed=("libc.so.6",), interpreter=LINKER),
        **{f"{LIB}/{name}": what for name, what in more.items()},
    }


def view(*layers: Mapping[str, Content]) -> NativeView:
    """Return the view of an image of these layers, which are named 0, 1 …"""
    return merge_layers((str(number), survey(layer)) for number, layer in enumerate(layers))


def check(*layers: Mapping[str, Content], arch: str = "amd64", **env: str) -> list[Finding]:
    """Return the findings of an image of these layers."""
    return check_native(view(*layers), env, arch)


def rules_of(findings: list[Finding]) -> list[tuple[str, str, str]]:
    """Rule, severity and path of each."""
    return [(one.rule.id, one.severity.name, one.path) for one in findings]
