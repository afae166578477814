"""The rules of the audit at rest about environment variables, search paths and code that Python starts."""

from __future__ import annotations

from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

WRITABLE_CODE = Rule(
    id="writable-code",
    title="The service's user may change code that Python imports",
    severity=HIGH,
    why="A file written through a flaw of the service becomes code at its next start, and in every other process.",
    advice="Let root own the files, as it owns everything that buildkit packs; write to a volume.",
)
USER_SITE = Rule(
    id="user-site",
    title="Python imports from the user's home",
    severity=MEDIUM,
    why="Python searches ~/.local/lib/python3.X/site-packages, and the user may write there.",
    advice="Set PYTHONNOUSERSITE = \"1\" in [config.env], use a virtual environment, or give the user no home.",
)  # fmt: skip
STARTUP_CODE = Rule(
    id="startup-code",
    title="Code runs at every start of Python",
    severity=MEDIUM,
    why="sitecustomize, usercustomize and `import` lines of .pth files run before any program; malware hides there.",
    advice="Read it. Keep it if a package needs it; else remove the file.",
)
WRITABLE_SEARCH = Rule(
    id="writable-search-path",
    title="The user may write to a search path of programs or libraries",
    severity=HIGH,
    why="A process that may write there decides which command or library is used next.",
    advice="List only folders owned by root in PATH and LD_LIBRARY_PATH.",
)
RELATIVE_SEARCH = Rule(
    id="relative-search-path",
    title="Programs, libraries or modules are searched for in the current folder",
    severity=HIGH,
    why="An empty or relative entry means the process's current folder, which may hold uploads or temporary files.",
    advice="Use absolute paths; leave no empty entry (a leading, trailing or double colon).",
)
PRELOAD = Rule(
    id="preload",
    title="A library is loaded into every program",
    severity=HIGH,
    why="LD_PRELOAD, LD_AUDIT and /etc/ld.so.preload load code into every process; rootkits use them.",
    advice="Remove it, or set the variable only for the program that needs it.",
)
HOOK_ESCAPE = Rule(
    id="hook-escape",
    title="A variable makes a program of the host load a library of the image",
    severity=Severity.CRITICAL,
    why="Hooks of the host run as root in the image's root folder, and older ones with the image's variables: a path "
    "from there leads into the image, which is root on the host with the NVIDIA container toolkit before 1.17.8.",
    advice="Remove it, and do not start the image. Update the toolkit: nox -s doctor names its version.",
    references=("CVE-2025-23266",),
)
LIBRARY_PATH = Rule(
    id="library-path",
    title="LD_LIBRARY_PATH is set",
    severity=LOW,
    why="It precedes the system's folders for every program, and obscures which library is used.",
    advice="Remove it if the libraries are found without it: wheels contain their own.",
)
HOOK_VARIABLE = Rule(
    id="hook-variable",
    title="A variable makes interpreters run or trust something",
    severity=MEDIUM,
    why="Such variables run code before the program starts, or disable its protection.",
    advice="Remove it from [config.env].",
    references=("CVE-2023-4911",),
)
