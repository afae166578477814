"""Rules for wheels. A wheel is code that somebody imports; they are about what runs or hides without an import."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

STARTUP_CODE = Rule(
    id="wheel-startup-code",
    title="A wheel runs code at every start of Python",
    severity=Severity.HIGH,
    why="Python's site module runs `import` lines of .pth files, sitecustomize and usercustomize in every process, "
    "whether or not anybody imports the package.",
    advice="Read the file in the wheel. Few packages need one; accept it if this is one of them.",
    references=("CWE-829",),
)
SEARCH_PATH = Rule(
    id="wheel-search-path",
    title="A wheel adds a folder to Python's search path",
    severity=Severity.MEDIUM,
    why="Python imports whatever lies in that folder, which is not part of the wheel.",
    advice="Read the file in the wheel, and look at who may write to the folder.",
)
DISGUISED = Rule(
    id="wheel-disguised-program",
    title="A program has the name of data",
    severity=Severity.HIGH,
    why="Programs and libraries are named as such; one that looks like a text or a picture hides what it is.",
    advice="Do not use the wheel before you know why.",
)
SHADOWS = Rule(
    id="wheel-shadows-program",
    title="A wheel installs a program with the name of a system program",
    severity=Severity.HIGH,
    why="The environment's programs are found before the system's: scripts that call the system's run this one.",
    advice="Do not use the wheel before you know why.",
)
SETUID = Rule(
    id="wheel-setuid",
    title="A file of a wheel has a setuid or setgid bit",
    severity=Severity.MEDIUM,
    why="Such a program runs with the rights of its owner. The bit is not installed, but no honest wheel has it.",
    advice="Ask the wheel's author.",
)
