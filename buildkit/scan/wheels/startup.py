"""What Python's ``site`` runs or adds to its search path at every start, found in the files of a wheel.

``site`` executes lines of ``NAME.pth`` in site-packages that begin with ``import`` and a blank, adds other lines to
``sys.path``, and imports ``sitecustomize`` and ``usercustomize``; Debian's own ``sitecustomize`` imports
``apport_python_hook``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.findings import Rule
from buildkit.scan.formats.cursor import quote
from buildkit.scan.wheels import rules

LARGEST = 1 << 20  # bytes of a .pth file; those of packages have a few hundred
_SITE = re.compile(
    r"(?:[^/]+\.data/(?:purelib/|platlib/|data/(?:.*/)?(?:site|dist)-packages/))?([^/]*(?:/__init__\.[^/]*)?)"
)
_MODULE = re.compile(r"(?:sitecustomize|usercustomize|apport_python_hook)(?:/__init__)?(?:\.pyc?|(?:\.[^/]*)?\.so)")
_SETUPTOOLS = (
    "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, '{}') == 'local';"
    " enabled and __import__('_distutils_hack').add_shim();"
)
_COVERAGE = (
    r"""import sys; exec('import os\n\nif os.getenv("COVERAGE_PROCESS_START") or """
    r"""os.getenv("COVERAGE_PROCESS_CONFIG"):\n try:\n  import coverage\n except:\n  pass\n else:\n"""
    r"""  coverage.process_startup(slug="pth")')"""
)
# verbatim, and of these distributions only: some import a module that any other wheel could bring along
_KNOWN = {
    ("setuptools", "distutils-precedence.pth"): (_SETUPTOOLS.format("local"), _SETUPTOOLS.format("stdlib")),
    ("virtualenv", "_virtualenv.pth"): ("import _virtualenv",),
    ("coverage", "a1_coverage.pth"): (_COVERAGE,),
    ("cmeel", "cmeel.pth"): ("import cmeel_pth",),
}
# setuptools' declaration of a namespace package, up to 2022: it runs nothing of the wheel's
_NAMESPACE = re.compile(
    r"import sys, types, os;has_mfs = sys\.version_info > \(3, 5\);"
    r"p = os\.path\.join\(sys\._getframe\(1\)\.f_locals\['sitedir'\], \*\((?P<parts>(?:'\w+', ?)*'\w+',?)\)\);"
    r"importlib = has_mfs and __import__\('importlib\.util'\);has_mfs and __import__\('importlib\.machinery'\);"
    r"m = has_mfs and sys\.modules\.setdefault\('(?P<name>[\w.]+)', importlib\.util\.module_from_spec\("
    r"importlib\.machinery\.PathFinder\.find_spec\('(?P=name)', \[os\.path\.dirname\(p\)\]\)\)\);"
    r"m = m or sys\.modules\.setdefault\('(?P=name)', types\.ModuleType\('(?P=name)'\)\);"
    r"mp = \(m or \[\]\) and m\.__dict__\.setdefault\('__path__',\[\]\);\(p not in mp\) and mp\.append\(p\)"
    r"(?:;m and setattr\(sys\.modules\['[\w.]+'\], '\w+', m\))?"
)


def find_site_name(member: str) -> str:
    """Return what a member is called in site-packages, if it lies directly in it (or begins a package); else empty."""
    found = _SITE.fullmatch(member)
    return found[1] if found else ""


def is_startup_module(name: str) -> bool:
    """Return whether Python imports this file of site-packages at every start."""
    return bool(_MODULE.fullmatch(name))


def check_path_file(distribution: str, name: str, content: bytes) -> Iterator[tuple[Rule, str]]:
    """Yield what a .pth file of a wheel does, except what is known to be harmless. ``distribution`` is normalised."""
    known = _KNOWN.get((distribution, name), ())
    text = content.decode("utf-8-sig", "surrogateescape")  # site falls back to the locale's encoding: ASCII is the same
    for line in text.splitlines():
        if line.startswith(("import ", "import\t")):
            if line.rstrip() not in known and not _NAMESPACE.fullmatch(line.rstrip()):
                yield rules.STARTUP_CODE, f"it runs {quote(line)}"
        elif line.strip() and not line.startswith("#"):
            yield rules.SEARCH_PATH, f"it adds {quote(line)}"
