"""Check files of the final view and members of every layer: rights that they grant, and what no honest tar has."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.audit import file_rules as rules
from buildkit.audit.capabilities import HARMLESS, decode_capabilities, format_capabilities
from buildkit.audit.layer_view import TarEntry
from buildkit.audit.view import SETGID, SETUID, STICKY, ImageView, format_untrusted
from buildkit.findings import Finding, Rule, Severity

_HARMLESS_DEVICES = frozenset(("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"))  # null, zero, …, tty, ptmx
_ODDITIES: dict[str, tuple[Rule, str]] = {
    "path-escapes": (rules.HOSTILE_MEMBER, "{} leaves the root by `..`"),
    "absolute-member": (rules.HOSTILE_MEMBER, "{} is absolute"),
    "duplicate-member": (rules.HOSTILE_MEMBER, "{} occurs twice in one layer"),
    "member-through-link": (rules.HOSTILE_MEMBER, "{} lies below a symbolic link of the same layer"),
    "odd-name": (rules.ODD_NAME, "{}"),
}
_MILD = frozenset(("absolute-member", "duplicate-member"))


def check_rights(view: ImageView) -> Iterator[Finding]:
    """Check setuid and setgid, capabilities, and what anyone may write."""
    for entry in view.files.values():
        found = _privileged(entry)
        if found is not None:
            yield _finding(view, entry, rules.SETUID, found[0], found[1])
        if entry.capability:
            yield _capability(view, entry)
        if entry.mode & 0o002 and entry.kind in ("file", "folder", "hard link", "pipe"):
            what = _format_writable(entry)
            if what:
                yield _finding(view, entry, rules.WORLD_WRITABLE, what)


def _privileged(entry: TarEntry) -> tuple[str, Severity | None] | None:
    """Return how a file grants rights. setgid on a folder grants none, nor does a file that no one may execute."""
    if entry.kind not in ("file", "hard link") or not entry.mode & (SETUID | SETGID):
        return None
    bits = " and ".join(name for bit, name in ((SETUID, "setuid"), (SETGID, "setgid")) if entry.mode & bit)
    owner = f"uid {entry.uid}" if entry.mode & SETUID else f"gid {entry.gid}"
    what = f"{bits}, of {owner}, mode {entry.mode:04o}"
    if not entry.mode & 0o111:
        return f"{what}, though no one may execute it", Severity.LOW
    return what, None if entry.mode & SETUID else Severity.MEDIUM


def _capability(view: ImageView, entry: TarEntry) -> Finding:
    decoded = decode_capabilities(entry.capability)
    mild = decoded is not None and (decoded[0] | decoded[1]) <= HARMLESS
    what = f"carries {format_capabilities(entry.capability)}"
    return _finding(view, entry, rules.FILE_CAPABILITY, what, Severity.LOW if mild else None)


def _format_writable(entry: TarEntry) -> str:
    if entry.kind == "folder":
        return "" if entry.mode & STICKY else f"a folder of mode {entry.mode:04o}, without the sticky bit"
    runs = ", and it is executable" if entry.mode & 0o111 else ""
    return f"a {'pipe' if entry.kind == 'pipe' else 'file'} of mode {entry.mode:04o}{runs}"


def check_members(view: ImageView) -> Iterator[Finding]:
    """Check every layer's members, including deleted ones: devices, links that climb, and hostile names."""
    for layer in view.layers:
        for kind, name in layer.oddities:
            rule, template = _ODDITIES[kind]
            override = Severity.MEDIUM if kind in _MILD else None
            shown = format_untrusted(name)
            yield Finding(rule=rule, what=template.format(shown), path=shown, layer=layer.digest, override=override)
        for entry in layer.entries:
            if "device" in entry.kind:
                mild = entry.kind == "character device" and entry.device in _HARMLESS_DEVICES
                what = f"a {entry.kind} {entry.device}" + (", one that every container has" if mild else "")
                yield _finding(view, entry, rules.DEVICE, what, Severity.LOW if mild else None)
            elif entry.is_link and climbs_above_root(entry):
                yield _finding(view, entry, rules.LINK_ESCAPES, f"leads to {format_untrusted(entry.link)}")


def climbs_above_root(entry: TarEntry) -> bool:
    """Return whether a relative link has more ``..`` than there are folders above it."""
    if entry.link.startswith("/"):
        return False
    depth = entry.path.count("/")
    for part in entry.link.split("/"):
        depth += -1 if part == ".." else 1 if part not in ("", ".") else 0
        if depth < 0:
            return True
    return False


def _finding(view: ImageView, entry: TarEntry, rule: Rule, what: str, override: Severity | None = None) -> Finding:
    path, digest = format_untrusted(entry.path, 4096), view.layers[entry.layer].digest
    return Finding(rule=rule, what=what, path=path, layer=digest, override=override)
