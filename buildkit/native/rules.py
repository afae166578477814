"""What may keep a native file from being loaded."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

_ADD = "Add the Debian package to the root's list (requirements/NAME.apt), and run nox -s lock."

MISSING = Rule(
    id="missing-library",
    title="A shared library is nowhere in the image",
    severity=Severity.HIGH,
    why="The dynamic linker stops with “cannot open shared object file”, when the program starts or the module is "
    "imported: often in production, in the one code path that no test took.",
    advice=_ADD,
)
OFF_PATH = Rule(
    id="library-off-path",
    title="A shared library is in the image, but not where the linker looks",
    severity=Severity.LOW,
    why="The file loads only if something else has loaded the library before, or LD_LIBRARY_PATH names its folder.",
    advice="See that the package that has it is imported first, or put its folder into ld.so.conf of the root.",
)
BEFORE = Rule(
    id="library-loaded-first",
    title="A shared library must be loaded by another package first",
    severity=Severity.NOTE,
    why="The library is in another wheel, which the file's own search path does not lead to. Wheels of one family "
    "(torchvision and torch, the NVIDIA libraries) are made so: importing the one loads the libraries of the other.",
    advice="Nothing, as long as the package imports; else import the one that has the library first.",
)
DRIVER = Rule(
    id="driver-library",
    title="A shared library comes with the GPU's driver",
    severity=Severity.NOTE,
    why="The host's driver is mounted into containers that start with a GPU (CDI); an image must not have it.",
    advice="Start the container with the GPU: podman run --device nvidia.com/gpu=all.",
)
OLD = Rule(
    id="glibc-too-old",
    title="The C or C++ library is older than a file asks for",
    severity=Severity.HIGH,
    why="The dynamic linker stops with “version `GLIBC_…' not found”: the file was built for a newer distribution.",
    advice="Use a root of a newer suite, or a wheel for an older manylinux platform ([tool.buildkit] glibc says which "
    "wheels are taken), or compile the package from its sdist.",
)
VERSION = Rule(
    id="symbol-version-missing",
    title="A shared library lacks a version of its symbols that a file asks for",
    severity=Severity.HIGH,
    why="The dynamic linker stops with “version `…' not found”: another version of the library was meant.",
    advice="Bring both from the same place: the suite's packages, or wheels that were built for each other.",
)
MACHINE = Rule(
    id="wrong-machine",
    title="A native file is for another machine",
    severity=Severity.HIGH,
    why="It cannot be loaded (“wrong ELF class”, “Exec format error”).",
    advice="Lock the wheel of the image's own architecture, or leave the file out.",
)
INTERPRETER = Rule(
    id="interpreter-missing",
    title="A program's dynamic linker is not in the image",
    severity=Severity.HIGH,
    why="The kernel answers “No such file or directory”, although the program is there.",
    advice="Use a program that was built for the root's C library, or add the package that has the linker (libc6).",
)
LIBC = Rule(
    id="wrong-libc",
    title="A file for glibc in an image of musl",
    severity=Severity.HIGH,
    why="musl lacks functions that programs built for glibc use; they fail when they are loaded, or later.",
    advice="Lock musllinux wheels, or use a Debian root.",
)
UNREAD = Rule(
    id="native-unreadable",
    title="A file begins like a native one and cannot be read as such",
    severity=Severity.NOTE,
    why="It is damaged, cut off, or made so on purpose; what it needs is not known.",
    advice="Fetch the package again if the file matters.",
)
UNFINISHED = Rule(
    id="native-unfinished",
    title="Not every native file could be checked",
    severity=Severity.MEDIUM,
    why="What files need leads to more steps than in any real image, which somebody must have meant.",
    advice="Find out where the layer comes from before you trust the image.",
)

RULES = (
    MISSING, OFF_PATH, BEFORE, DRIVER, OLD, VERSION, MACHINE, INTERPRETER, LIBC, UNREAD, UNFINISHED,
)  # fmt: skip
