"""The rules of the audit at rest about programs that a service does not need."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

SHELL = Rule(
    id="shell",
    title="There is a shell",
    severity=MEDIUM,
    why="Nearly every attack that runs a command starts a shell, and a service needs none.",
    advice="Ship a root without one: variant = \"extract\" and `exclude` in [root], as stages/hardened does.",
    references=cis("4.3"),
)  # fmt: skip
PACKAGE_MANAGER = Rule(
    id="package-manager",
    title="There is a package manager",
    severity=MEDIUM,
    why="It gives an intruder any tool that is missing, and changes what was audited.",
    advice="Ship a root without one; packages are chosen when the image is built.",
    references=cis("4.3"),
)
COMPILER = Rule(
    id="compiler",
    title="There is a compiler or another build tool",
    severity=MEDIUM,
    why="It builds exploits on the spot, and its libraries need patches of their own.",
    advice="Compile in the builder stage; the shipped image needs only the result.",
    references=cis("4.3"),
)
DOWNLOADER = Rule(
    id="downloader",
    title="There is a program that moves files or data over the network",
    severity=MEDIUM,
    why="It fetches an intruder's tools, and sends data out.",
    advice="Leave it out; models and packages are added when the image is built.",
    references=cis("4.3"),
)
DEBUGGER = Rule(
    id="debugger",
    title="There is a debugger or a tracer",
    severity=MEDIUM,
    why="It reads the memory of other processes, including their secrets.",
    advice="Keep it in the development stage.",
    references=cis("4.3"),
)
INTERPRETER = Rule(
    id="interpreter",
    title="There is an interpreter besides the service's own",
    severity=LOW,
    why="It can do what a shell does.",
    advice="Leave it out if the service does not use it.",
    references=cis("4.3"),
)
REMOTE_LOGIN = Rule(
    id="remote-login",
    title="There is a login server",
    severity=HIGH,
    why="It is another way in, with its own keys and passwords, and needs patches.",
    advice="Leave it out: podman exec and kubectl exec need none.",
    references=cis("5.7"),
)
