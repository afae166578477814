"""The rules of the audit at rest about config, ports, labels and history of an image."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

PRIVILEGED_PORT = Rule(
    id="privileged-port",
    title="A port below 1024 is exposed",
    severity=MEDIUM,
    why="Listening there takes a capability or root, and clients take such a port for a system service.",
    advice="Listen on a port above 1023, and publish it as another one.",
    references=cis("5.8"),
)
RISKY_PORT = Rule(
    id="risky-port",
    title="A port for login or debugging is exposed",
    severity=HIGH,
    why="Everyone who can reach it can run commands in the container.",
    advice="Leave it out of the shipped image.",
    references=cis("5.7", "5.9"),
)
NO_HEALTHCHECK = Rule(
    id="no-healthcheck",
    title="The image has no HEALTHCHECK",
    severity=LOW,
    why="The engine never notices that a service hangs.",
    advice="Add [config.healthcheck] to the stage.",
    references=cis("4.6"),
)
COMMAND_MISSING = Rule(
    id="command-missing",
    title="A command of the config is not in the image",
    severity=HIGH,
    why="The container does not start, or its health check always fails.",
    advice="Name a program that the image has; a root without a shell runs no `CMD-SHELL`.",
    references=cis("4.6"),
)
UNPINNED = Rule(
    id="base-unpinned",
    title="The image's base is not pinned",
    severity=LOW,
    why="The same build gives another image tomorrow, and no one can verify its base.",
    advice="Pin it: a lock of Debian packages, or image = \"…@sha256:…\" in [root].",
    references=cis("4.2"),
)  # fmt: skip
LABELS = Rule(
    id="labels-missing",
    title="The image has no title or description",
    severity=LOW,
    why="Someone who finds it running cannot tell its purpose or its owner.",
    advice="Set org.opencontainers.image.title and .description, as buildkit does.",
)
LATEST = Rule(
    id="latest-tag",
    title="The image is named by a tag that moves",
    severity=LOW,
    why="`latest` is another image tomorrow: what runs is not what was audited.",
    advice="Use a version, or the digest.",
    references=cis("4.2"),
)
LARGER = Rule(
    id="larger-than-peer",
    title="The image is larger than the image that it should be smaller than",
    severity=LOW,
    why="A hardened image that has grown contains something unnecessary.",
    advice="Inspect its root: nox -s plan, podman history.",
    references=cis("4.3"),
)
ADD_STEP = Rule(
    id="add-step",
    title="The history has an ADD instruction",
    severity=LOW,
    why="ADD downloads files and unpacks archives, without verifying them.",
    advice="Use COPY, or a lock with hashes.",
    references=cis("4.9"),
)
UPDATE_ALONE = Rule(
    id="update-alone",
    title="The history updates package lists in a step of its own",
    severity=LOW,
    why="A builder that caches steps keeps installing from old lists.",
    advice="Update and install in one step, or install from a lock.",
    references=cis("4.7"),
)
SOCKET_VOLUME = Rule(
    id="engine-socket",
    title="The image requests the engine's socket",
    severity=HIGH,
    why="A process that can use it is root on the host.",
    advice="Remove the volume.",
    references=cis("5.32"),
)
