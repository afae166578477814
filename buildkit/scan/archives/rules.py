"""Rules for archives."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

REPACK = "Do not load it as it is. Get the file again, or extract it in a safe place and inspect the mismatch."

DISAGREE = Rule(
    id="zip-headers-disagree",
    title="A zip archive contradicts itself about a member",
    severity=Severity.MEDIUM,
    why="Readers trust either the central directory or the local header: a scanner may see a different file than "
    "the loader. Ordinary tools do not write this.",
    advice=REPACK,
    references=("CVE-2025-1944", "CVE-2025-1945"),
)
HIDDEN = Rule(
    id="zip-hidden-member",
    title="A zip archive contains a member that its directory does not list",
    severity=Severity.HIGH,
    why="Readers of the directory never show it; readers that go through the file load it.",
    advice=REPACK,
)
DUPLICATE = Rule(
    id="archive-duplicate-member",
    title="Two members have the same name",
    severity=Severity.MEDIUM,
    why="Some readers take the first, others the last: a scanner and a loader may see different files.",
    advice=REPACK,
)
FLAGS = Rule(
    id="zip-flags-lie",
    title="A member is marked as encrypted, but is not",
    severity=Severity.HIGH,
    why="Scanners give up on encrypted members; loaders that ignore the flag load it.",
    advice=REPACK,
    references=("CVE-2025-1945",),
)
CHECKSUM = Rule(
    id="zip-checksum",
    title="A member's checksum differs from the archive's",
    severity=Severity.MEDIUM,
    why="It was changed or damaged after the archive was made. Scanners give up on it; some loaders do not check.",
    advice=REPACK,
    references=("GHSA-mjqp-26hc-grxg",),
)
OUTSIDE = Rule(
    id="archive-path-escapes",
    title="A member would be extracted outside the folder",
    severity=Severity.HIGH,
    why="An absolute path or `..` in its name, or a link that leads outside, lets extraction overwrite any file.",
    advice=REPACK,
    references=("CWE-22",),
)
LINK = Rule(
    id="archive-special-member",
    title="A model's archive contains a device, pipe or link",
    severity=Severity.LOW,
    why="Models are plain files. A link or device gives access to other files of the host that extracts it.",
    advice="Ask what it is for.",
    references=("CWE-59",),
)
OVERLAP = Rule(
    id="zip-overlap",
    title="Members of a zip archive overlap",
    severity=Severity.MEDIUM,
    why="This way a small file inflates to an enormous one, or one member hides inside another.",
    advice=REPACK,
)
SCRIPT_FILES = Rule(
    id="torchscript-files",
    title="TorchScript code reads or writes files",
    severity=Severity.HIGH,
    why="The operators aten::save and aten::from_file access files wherever the model runs.",
    advice="Do not run the model; ask the author why it does this.",
)
