"""The environment that the image sets, and the search paths for programs and libraries in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.audit import search_path_rules as rules
from buildkit.audit.programs import program_folders
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.audit.write_access import find_write_access
from buildkit.findings import Finding, Severity

_LIBRARIES = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib")
_PACKAGES = re.compile(r"/(?:site|dist)-packages/")  # checked with the import paths
_PRELOAD_VARIABLES = ("LD_PRELOAD", "LD_AUDIT")
_SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
_HOOKS = {
    "PYTHONSTARTUP": "Python runs the file that it names",
    "PYTHONHOME": "Python takes its library from there",
    "PYTHONINSPECT": "Python prompts for commands when the program has ended",
    "PYTHONBREAKPOINT": "Python calls what it names",
    "BASH_ENV": "bash runs the file that it names",
    "ENV": "sh runs the file that it names",
    "PROMPT_COMMAND": "bash runs it",
    "PERL5LIB": "perl loads modules from there",
    "PERL5OPT": "perl takes options from it",
    "RUBYOPT": "ruby takes options from it",
    "NODE_OPTIONS": "node takes options from it",
    "JAVA_TOOL_OPTIONS": "java takes options from it",
    "GCONV_PATH": "glibc loads libraries from there",
    "GLIBC_TUNABLES": "glibc's settings, one of which has led to root access",
    "GIT_SSH_COMMAND": "git runs it",
}
_LEADS_BACK = re.compile(r"/proc/(?:self|thread-self|\d+)/(?:cwd|root)(?=/|$)")
_SHARED = re.compile(r"\.so(?:\.|$)")
_UNVERIFIED = {
    "PYTHONHTTPSVERIFY": "0",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "GIT_SSL_NO_VERIFY": "",
    "CURL_INSECURE": "",
}
_INDEX = frozenset(("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", "PIP_EXTRA_INDEX_URL"))


def check_environment(view: ImageView) -> Iterator[Finding]:
    """Check variables that load, search for, or trust something."""
    for name, value in view.config.env:
        place = f"config: {format_untrusted(name, 80)}"
        if name in _PRELOAD_VARIABLES and value.strip():
            yield from _check_preload(view, name, value)
        elif name in _SEARCH_PATHS:
            yield from _check_search(view, name, value)
        elif value and (effect := _find_hook(name, value)):
            yield Finding(rule=rules.HOOK_VARIABLE, what=f"{name}={format_untrusted(value, 80)}: {effect}", path=place)
    content = view.text("etc/ld.so.preload").split()
    if content:
        entry = view.find("etc/ld.so.preload")
        layer = view.layers[entry.layer].digest if entry else ""
        yield Finding(
            rule=rules.PRELOAD,
            what=f"loads {format_untrusted(' '.join(content), 200)}",
            path="etc/ld.so.preload",
            layer=layer,
        )


def check_programs_writable(view: ImageView) -> Iterator[Finding]:
    """Check programs and system libraries that the user may change although it cannot write to their folders."""
    identity = view.identity
    if not identity.uid:
        return
    folders = tuple(f"{folder}/" for folder in (*program_folders(view), *_LIBRARIES))
    for entry in view.files.values():
        runs = entry.kind == "file" and (entry.mode & 0o111 or entry.is_elf)
        if runs and entry.path.startswith(folders) and identity.may_write(entry) and not _PACKAGES.search(entry.path):
            what = f"{identity.description} may change it: mode {entry.mode:04o}, of uid {entry.uid}"
            layer = view.layers[entry.layer].digest
            yield Finding(rule=rules.WRITABLE_SEARCH, what=what, path=format_untrusted(entry.path, 4096), layer=layer)


def _check_preload(view: ImageView, name: str, value: str) -> Iterator[Finding]:
    """Check a preloaded library; one that the user cannot change was chosen (an allocator), so it is less severe."""
    libraries = value.replace(":", " ").split()
    kept = all(path.startswith("/") and view.find(path) and not find_write_access(view, path) for path in libraries)
    override = Severity.MEDIUM if kept and name == "LD_PRELOAD" else None
    what = f"{name}={format_untrusted(value, 200)}"
    if any(_leads_back(path) for path in libraries):
        yield Finding(rule=rules.HOOK_ESCAPE, what=what, path=f"config: {name}")
        return
    yield Finding(rule=rules.PRELOAD, what=what, path=f"config: {name}", override=override)


def _check_search(view: ImageView, name: str, value: str) -> Iterator[Finding]:
    place = f"config: {name}"
    if name == "PYTHONPATH" and not value:
        return  # the same as not set
    for part in value.split(":"):
        if not part.startswith("/"):
            entry = f"`{format_untrusted(part, 80)}`" if part else "an empty entry"
            yield Finding(
                rule=rules.RELATIVE_SEARCH, what=f"{name} has {entry}: {format_untrusted(value, 200)}", path=place
            )
        elif name != "PYTHONPATH" and (
            way := find_write_access(view, part)
        ):  # modules are checked with the import paths
            what = f"{view.identity.description} may write into {format_untrusted(part, 200)} of {name}: {way}"
            yield Finding(rule=rules.WRITABLE_SEARCH, what=what, path=place)
        elif name == "PATH" and _is_open(view, part):
            yield Finding(
                rule=rules.WRITABLE_SEARCH,
                what=f"anyone may write into {format_untrusted(part, 200)} of PATH",
                path=place,
            )
    if name == "LD_LIBRARY_PATH" and value:
        yield from _check_hooks(view, value, place)
        yield Finding(rule=rules.LIBRARY_PATH, what=f"{name}={format_untrusted(value, 200)}", path=place)


def _check_hooks(view: ImageView, value: str, place: str) -> Iterator[Finding]:
    """Check for folders that a hook would search in the image; an empty or odd one without libraries is a slip."""
    for part in value.split(":"):
        folder = _LEADS_BACK.sub("", part).strip("/.")
        names = view.folders.get(folder, ()) if _leads_back(f"{part}/") else ()
        if library := next((name for name in sorted(names) if _SHARED.search(name)), ""):
            what = f"LD_LIBRARY_PATH={format_untrusted(value, 200)} leads to {format_untrusted(f'{folder}/{library}')}"
            yield Finding(rule=rules.HOOK_ESCAPE, what=what, path=place)


def _leads_back(path: str) -> bool:
    """Return whether a path means a file of the image to a program of the host that runs in the image's root folder."""
    return bool(_LEADS_BACK.match(path)) or ("/" in path and not path.startswith("/")) or path == "/"


def _is_open(view: ImageView, folder: str) -> bool:
    entry = view.find(folder)
    return entry is not None and entry.kind == "folder" and bool(entry.mode & 0o002)


def _find_hook(name: str, value: str) -> str:
    if name in _UNVERIFIED:
        return "certificates are not verified" if _UNVERIFIED[name] in ("", value) else ""
    if name in _INDEX:
        return "packages come from an index that is not verified, or not the only one"
    return _HOOKS.get(name, "")
