"""The rules of the audit of containers that run already, beside those of `running_rules`."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

IMAGE_DIFFERS = Rule(
    id="image-differs",
    title="A container runs another image than it should",
    severity=HIGH,
    why="Its code is not what this checkout makes, or not what was signed: it is outdated, or somebody else's.",
    advice="Start it anew from the right image; nox -s verify-image says what differs in a registry.",
    references=cis("4.2"),
)
IMAGE_UNVERIFIED = Rule(
    id="image-unverified",
    title="Nothing says that a container's image is the right one",
    severity=MEDIUM,
    why="An image that nobody vouches for may have any content.",
    advice="Build the stage here, or name the key and the image in its registry: --key PUB --signed STAGE=REF.",
    references=cis("4.2"),
)
WEAKER_FLAG = Rule(
    id="weaker-flag",
    title="A container was started with a weaker flag than is declared",
    severity=MEDIUM,
    why="What was decided for this service does not hold for this container.",
    advice="Start it by nox -s run-STAGE or nox -s up, or declare in [running] or services.toml what it needs.",
    references=cis("5.4", "5.9", "5.11", "5.14", "5.18", "5.22"),
)
ENGINE_MOUNTED = Rule(
    id="engine-mounted",
    title="The engine's socket, or a folder of the host with it, is in a container",
    severity=Severity.CRITICAL,
    why="Whoever reaches it starts containers with any rights, and so has those of the engine's user on the host.",
    advice="Remove the mount.",
    references=cis("5.32"),
)
UNDECLARED_MOUNT = Rule(
    id="undeclared-mount",
    title="A file or folder of the host is in a container that does not declare it",
    severity=MEDIUM,
    why="Its processes read what the host keeps there, and do what it says, though no file of the project names it.",
    advice="Copy into the image what belongs there; give a password as a secret.",
    references=cis("5.5"),
)
FOREIGN_CODE = Rule(
    id="code-not-in-image",
    title="A process runs a file that the image does not have",
    severity=HIGH,
    why="It was written after the container began, unchecked: an update by hand, or an intruder's program.",
    advice="Find out who wrote it (podman diff), then start the container anew with a read-only root.",
    references=cis("5.13"),
)
WRITABLE_CODE = Rule(
    id="code-from-writable",
    title="A process runs a file from a place that can be written to",
    severity=HIGH,
    why="Whoever writes there decides what runs, and the next start may run it again.",
    advice="Put programs and libraries into the image, and mount the place with noexec.",
    references=cis("5.13"),
)
WRITABLE_SCRIPT = Rule(
    id="script-from-writable",
    title="An interpreter runs a script that the image does not have",
    severity=MEDIUM,
    why="noexec and a read-only root do not keep an interpreter from reading its program from a writable place.",
    advice="Put the script into the image.",
)
MEMORY_CODE = Rule(
    id="code-in-memory",
    title="A process runs code that no file has",
    severity=HIGH,
    why="It is how programs run despite a read-only root and noexec, and without a trace on disk.",
    advice="Use the service's seccomp profile, which refuses memfd_create; accept it for a compiler that needs it.",
)
MOUNTED_CODE = Rule(
    id="code-mounted",
    title="A process runs a file of a read-only mount",
    severity=LOW,
    why="The image's checks and signature do not cover what the host or another image adds to it.",
    advice="Put it into the image, or accept it with a reason.",
)
CONNECTION_OUT = Rule(
    id="outgoing-connection",
    title="A container that must not reach other hosts does",
    severity=HIGH,
    why="It is how data leaves, and how an intruder fetches tools and orders.",
    advice="Find out which process it is (nsenter --net ss --processes); close the network, or set outgoing = true.",
    references=cis("5.30"),
)
NOT_CHECKED = Rule(
    id="not-checked",
    title="A part of a container could not be examined",
    severity=HIGH,
    why="What was not seen may be anything; it is no pass.",
    advice="Run as the containers' user or as root; if time was short, look less often, or at fewer containers.",
)
