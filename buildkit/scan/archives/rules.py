"""What can be wrong with an archive."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

REPACK = "Do not load it as it is. Ask for the file anew, or unpack it somewhere safe and look at what does not fit."

DISAGREE = Rule(
    id="zip-headers-disagree",
    title="A zip archive says two things about one member",
    severity=Severity.MEDIUM,
    why="Readers believe either the central directory or the header beside the content: a scanner then sees another "
    "file than the loader. Tools do not write this.",
    advice=REPACK,
    references=("CVE-2025-1944", "CVE-2025-1945"),
)
HIDDEN = Rule(
    id="zip-hidden-member",
    title="A zip archive holds a member that its directory does not name",
    severity=Severity.HIGH,
    why="Readers that go by the directory never show it, readers that go through the file load it.",
    advice=REPACK,
)
DUPLICATE = Rule(
    id="archive-duplicate-member",
    title="Two members have one name",
    severity=Severity.MEDIUM,
    why="Some readers take the first, some the last: a scanner and a loader may see different files.",
    advice=REPACK,
)
FLAGS = Rule(
    id="zip-flags-lie",
    title="A member says that it is encrypted and is not",
    severity=Severity.HIGH,
    why="Scanners give up on encrypted members; loaders that ignore the flag load it.",
    advice=REPACK,
    references=("CVE-2025-1945",),
)
CHECKSUM = Rule(
    id="zip-checksum",
    title="A member has another checksum than the archive says",
    severity=Severity.MEDIUM,
    why="It was changed after the archive was made, or damaged. Scanners give up on it; some loaders do not check.",
    advice=REPACK,
    references=("GHSA-mjqp-26hc-grxg",),
)
OUTSIDE = Rule(
    id="archive-path-escapes",
    title="A member would be unpacked outside of its folder",
    severity=Severity.HIGH,
    why="An absolute path or `..` in its name, or a link that leads outside, lets unpacking overwrite any file.",
    advice=REPACK,
    references=("CWE-22",),
)
LINK = Rule(
    id="archive-special-member",
    title="An archive of a model holds a device, pipe or link",
    severity=Severity.LOW,
    why="Models are plain files. A link or device is a way to other files of the host that unpacks it.",
    advice="Ask what it is for.",
    references=("CWE-59",),
)
OVERLAP = Rule(
    id="zip-overlap",
    title="Members of a zip archive share their bytes",
    severity=Severity.MEDIUM,
    why="So a small file unpacks to an enormous one, or one content hides inside another.",
    advice=REPACK,
)
SCRIPT_FILES = Rule(
    id="torchscript-files",
    title="TorchScript code reads or writes files",
    severity=Severity.HIGH,
    why="The operators aten::save and aten::from_file touch files wherever the model runs.",
    advice="Do not run the model; ask its author why it does this.",
)
