"""The rules for native files that may fail to load."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

_ADD = "Add the Debian package to the root's list (requirements/NAME.apt), and run nox -s lock."

MISSING = Rule(
    id="missing-library",
    title="A shared library is nowhere in the image",
    severity=Severity.HIGH,
    why="The dynamic linker stops with “cannot open shared object file” when the program starts or the module is "
    "imported, often in production, in a code path that no test covers.",
    advice=_ADD,
)
OFF_PATH = Rule(
    id="library-off-path",
    title="A shared library is in the image, but not where the linker looks",
    severity=Severity.LOW,
    why="The file loads only if something else has loaded the library before, or LD_LIBRARY_PATH names its folder.",
    advice="Import the package that ships it first, or add its folder to ld.so.conf of the root.",
)
BEFORE = Rule(
    id="library-loaded-first",
    title="A shared library must be loaded by another package first",
    severity=Severity.NOTE,
    why="The library is in another wheel, outside the file's own search path. Wheels of one family (torchvision and "
    "torch, the NVIDIA libraries) are built this way: importing one loads the libraries of the other.",
    advice="Nothing, as long as the package imports; else first import the package that ships the library.",
)
DRIVER = Rule(
    id="driver-library",
    title="A shared library comes with the GPU's driver",
    severity=Severity.NOTE,
    why="The host's driver is mounted into containers that start with a GPU (CDI); an image must not ship it.",
    advice="Start the container with the GPU: podman run --device nvidia.com/gpu=all.",
)
OLD = Rule(
    id="glibc-too-old",
    title="The C or C++ library is older than a file requires",
    severity=Severity.HIGH,
    why="The dynamic linker stops with “version `GLIBC_…' not found”: the file was built for a newer distribution.",
    advice="Use a root of a newer suite, or a wheel for an older manylinux platform ([tool.buildkit] glibc says which "
    "wheels are taken), or compile the package from its sdist.",
)
VERSION = Rule(
    id="symbol-version-missing",
    title="A shared library lacks a symbol version that a file requires",
    severity=Severity.HIGH,
    why="The dynamic linker stops with “version `…' not found”: the file was linked with another version of it.",
    advice="Take both from one source: the suite's packages, or wheels that were built for each other.",
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
    why="The kernel answers “No such file or directory” although the program exists.",
    advice="Use a program that was built for the root's C library, or add the package that has the linker (libc6).",
)
LIBC = Rule(
    id="wrong-libc",
    title="A file for glibc in an image with musl",
    severity=Severity.HIGH,
    why="musl lacks functions that programs built for glibc use; they fail when they are loaded, or later.",
    advice="Lock musllinux wheels, or use a Debian root.",
)
UNREAD = Rule(
    id="native-unreadable",
    title="A file starts like a native one but cannot be parsed",
    severity=Severity.NOTE,
    why="It is damaged, truncated, or crafted; what it needs is unknown.",
    advice="Fetch the package again if the file matters.",
)
UNFINISHED = Rule(
    id="native-unfinished",
    title="Not every native file could be checked",
    severity=Severity.MEDIUM,
    why="The files take more steps to check than in any real image; they are probably crafted.",
    advice="Find out where the layer comes from before trusting the image.",
)

RULES = (
    MISSING, OFF_PATH, BEFORE, DRIVER, OLD, VERSION, MACHINE, INTERPRETER, LIBC, UNREAD, UNFINISHED,
)  # fmt: skip
