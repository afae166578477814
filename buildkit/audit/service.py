"""The config of the service: ports, health check, commands, labels, base, tag, history, size."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from buildkit.audit import service_rules as rules
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.declare.target import SYSTEM_PATH
from buildkit.digits import find_number
from buildkit.findings import Finding, Rule, Severity

_RISKY = {
    21: "ftp", 22: "ssh", 23: "telnet", 111: "rpcbind", 512: "rexec", 513: "rlogin", 514: "rsh", 873: "rsync",
    2222: "ssh", 2375: "the Docker engine", 2376: "the Docker engine", 3389: "rdp", 5678: "debugpy", 5900: "vnc",
    6006: "TensorBoard", 8265: "Ray's dashboard", 8888: "Jupyter", 9229: "node's inspector", 10250: "kubelet",
}  # fmt: skip
_LABELS = ("org.opencontainers.image.title", "org.opencontainers.image.description")
_BASE = "org.opencontainers.image.base.digest"
_OURS = "buildkit"
_PINNED_ROOT = re.compile(r"Debian \S+: [0-9]+ packages of |\S+@sha256:[0-9a-f]{64}$")
_SHELL = "/bin/sh"
_UPDATE = re.compile(r"\b(?:apt-get|apt|yum|dnf|apk|zypper)\s+(?:-\S+\s+)*(?:update|makecache|refresh)\b")
_INSTALL = re.compile(r"\b(?:apt-get|apt|yum|dnf|apk|zypper)\s+(?:-\S+\s+)*(?:install|upgrade|dist-upgrade|add|in)\b")
_ADD = re.compile(r"^(?:/bin/sh -c #\(nop\)\s+)?ADD\s")


def check_service(view: ImageView) -> Iterator[Finding]:
    """Check the config, except for user, environment and secrets."""
    yield from _check_ports(view)
    yield from _check_health(view)
    yield from _check_command(view)
    yield from _check_identity(view)
    yield from _check_history(view)
    yield from _check_size(view)
    for volume in view.config.volumes:
        if volume.rstrip("/").endswith(("docker.sock", "podman.sock", "containerd.sock", "crio.sock")):
            yield _finding(rules.SOCKET_VOLUME, f"the volume {format_untrusted(volume)}", "volumes")


def _check_ports(view: ImageView) -> Iterator[Finding]:
    for entry in view.config.ports:
        number = entry.partition("/")[0].partition("-")[0]
        port = find_number(number) or 0
        if port in _RISKY:
            override = None if port in (22, 23, 512, 513, 514, 2222, 2375, 2376) else Severity.MEDIUM
            yield _finding(
                rules.RISKY_PORT, f"{format_untrusted(entry)} is the port of {_RISKY[port]}", "ports", override
            )
        elif 0 < port < 1024:
            yield _finding(rules.PRIVILEGED_PORT, f"{format_untrusted(entry)}", "ports")


def _check_health(view: ImageView) -> Iterator[Finding]:
    test = view.config.healthcheck
    if test is None or test[0] == "NONE":
        yield _finding(rules.NO_HEALTHCHECK, "the config has none" if test is None else "it is disabled", "healthcheck")
    elif test[0] == "CMD-SHELL":
        if find_program(view, _SHELL) is None:
            yield _finding(
                rules.COMMAND_MISSING, "the health check needs /bin/sh, which the image lacks", "healthcheck"
            )
    elif test[0] == "CMD" and len(test) > 1 and find_program(view, test[1]) is None:
        yield _finding(
            rules.COMMAND_MISSING,
            f"the health check starts {format_untrusted(test[1])}, which the image lacks",
            "healthcheck",
        )


def _check_command(view: ImageView) -> Iterator[Finding]:
    argv = view.config.argv
    if argv and argv[0] and find_program(view, argv[0]) is None:
        yield _finding(
            rules.COMMAND_MISSING, f"it starts {format_untrusted(argv[0])}, which the image lacks", "command"
        )


def find_program(view: ImageView, name: str) -> str | None:
    """Return the path of a program as the runtime finds it, by the working folder or by PATH; None if it cannot run."""
    if "/" in name:
        places = [posixpath.join("/", view.config.workdir, name)]
    else:
        path = view.config.variables.get("PATH", SYSTEM_PATH)
        places = [posixpath.join("/", view.config.workdir, folder, name) for folder in path.split(":")]
    for place in places:
        entry = view.find(place)
        if entry is not None and entry.kind in ("file", "hard link") and entry.mode & 0o111:
            return place
    return None


def _check_identity(view: ImageView) -> Iterator[Finding]:
    labels = dict(view.config.labels)
    missing = [name for name in _LABELS if not labels.get(name)]
    if missing:
        yield _finding(rules.LABELS, f"without {', '.join(missing)}", "labels")
    if not find_base_pin(view):
        yield _finding(rules.UNPINNED, f"no label {_BASE}, and no other pin", "labels")
    tag = view.origin.tag
    if tag and "@" not in tag and (tag.endswith(":latest") or ":" not in tag.rpartition("/")[2]):
        yield Finding(rule=rules.LATEST, what=f"it was requested as {format_untrusted(tag)}", path="")


def find_base_pin(view: ImageView) -> str:
    """Return how the base is pinned: by the caller, by labels, or by buildkit's history; empty if unknown."""
    if view.origin.pinned:
        return view.origin.pinned
    labels, history = dict(view.config.labels), view.config.history
    if re.fullmatch(r"sha256:[0-9a-f]{64}", labels.get(_BASE, "")):
        return labels[_BASE]
    if history and history[0].comment == _OURS and _PINNED_ROOT.match(history[0].created_by):
        return history[0].created_by
    return ""


def _check_history(view: ImageView) -> Iterator[Finding]:
    for number, line in enumerate(view.config.history):
        text = line.created_by
        if number and _ADD.match(text):  # the first step makes the base
            yield _finding(rules.ADD_STEP, format_untrusted(text, 120), "history")
        if _UPDATE.search(text) and not _INSTALL.search(text):
            yield _finding(rules.UPDATE_ALONE, format_untrusted(text, 120), "history")


def _check_size(view: ImageView) -> Iterator[Finding]:
    size = sum(layer.unpacked for layer in view.layers)
    for name, other in view.origin.peers:
        if size > other:
            what = f"{size} bytes unpacked, {name} has {other}"
            yield Finding(rule=rules.LARGER, what=what, path="")


def _finding(rule: Rule, what: str, part: str, override: Severity | None = None) -> Finding:
    return Finding(rule=rule, what=what, path=f"config: {part}", override=override)
