"""The rules of the audit at rest about files, their permissions and their names."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

SETUID = Rule(
    id="setuid-file",
    title="A program runs with its owner's rights",
    severity=HIGH,
    why="A setuid or setgid program gives any process of the container its owner's rights, and its flaws with them.",
    advice="Set drop-setuid = true in [root], or leave the package out; run with --security-opt=no-new-privileges.",
    references=cis("4.8"),
)
FILE_CAPABILITY = Rule(
    id="file-capability",
    title="A program carries capabilities",
    severity=HIGH,
    why="Any user who starts it gets rights of root that the service's user does not have.",
    advice="Remove them, or give the capability to the container that needs it.",
    references=cis("4.8", "5.4"),
)
WORLD_WRITABLE = Rule(
    id="world-writable",
    title="Anyone may write to a file or a folder",
    severity=MEDIUM,
    why="An intruder can change what any process can: data that others trust, or programs that others start.",
    advice="Remove the permission; a shared folder needs the sticky bit (mode 1777), as /tmp has.",
)
RECORD_WRONG = Rule(
    id="record-wrong",
    title="A package's record lists files that are not in the image",
    severity=LOW,
    why="Scanners believe records: they report flaws of files that are gone, and say nothing of those that have none.",
    advice="Remove a package whole, with its record; of a trimmed root keep in each record what is left.",
)
DEVICE = Rule(
    id="device-node",
    title="A layer contains a device",
    severity=HIGH,
    why="If the container may use devices, it gives access to the host's disks and memory.",
    advice="Remove it: the runtime creates the devices that a container needs.",
)
HOSTILE_MEMBER = Rule(
    id="hostile-member",
    title="A layer's tar has a hostile member",
    severity=HIGH,
    why="Paths that leave the root, follow links or repeat make unpackers write outside, and tools disagree.",
    advice="Do not run it; ask its author.",
    references=("CVE-2014-6407",),
)
ODD_NAME = Rule(
    id="odd-name",
    title="A file's name has deceptive characters",
    severity=LOW,
    why="Escapes, line breaks and invalid text forge the output of terminals and logs.",
    advice="Rename or remove it.",
)
LINK_ESCAPES = Rule(
    id="link-escapes",
    title="A symbolic link climbs above the root",
    severity=MEDIUM,
    why="In the container it ends at the root; a careless unpacker or mount follows it to the host.",
    advice="Make it absolute, or remove it.",
    references=("CVE-2014-9356",),
)
