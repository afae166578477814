"""The paths that Python imports code from in this image, and whether the image's user may change them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from buildkit.audit import search_path_rules as rules
from buildkit.audit.layer_view import TarEntry
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.audit.write_access import find_write_access
from buildkit.findings import Finding

_LIBRARY = re.compile(r"(?:^|/)lib(?:64)?/python3(?:\.[0-9]+)?$|(?:^|/)(?:site|dist)-packages$")
_PYTHON = re.compile(r"(?:^|/)python(?:3(?:\.[0-9]+)?)?$")
_CUSTOM = re.compile(
    r"(?:^|/)(?:(?:site|dist)-packages|python3(?:\.[0-9]+)?)/(?:sitecustomize|usercustomize|apport_python_hook)"
    r"(?:/__init__)?(?:\.pyc?|(?:\.[^/]*)?\.so)$"
)
# of Debian 11 to 13 and Ubuntu, verbatim; images do not have the module, which is startup code if they do
_DEBIANS = b"""\
# install the apport exception handler if available
try:
    import apport_python_hook
except ImportError:
    pass
else:
    apport_python_hook.install()
"""
_SETUPTOOLS = (
    "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, '{}') == 'local';"
    " enabled and __import__('_distutils_hack').add_shim();"
)
_COVERAGE = (
    r"""import sys; exec('import os\n\nif os.getenv("COVERAGE_PROCESS_START") or """
    r"""os.getenv("COVERAGE_PROCESS_CONFIG"):\n try:\n  import coverage\n except:\n  pass\n else:\n"""
    r"""  coverage.process_startup(slug="pth")')"""
)
_WELL_KNOWN = {
    "distutils-precedence.pth": (_SETUPTOOLS.format("local"), _SETUPTOOLS.format("stdlib")),
    "_virtualenv.pth": ("import _virtualenv",),
    "a1_coverage.pth": (_COVERAGE,),
}
_SHOWN = 3


def check_imports(view: ImageView) -> Iterator[Finding]:
    """Check for writable import paths, code at every start, and the user's own site-packages."""
    yield from _check_writable(view)
    yield from _check_startup(view)
    yield from _check_user_site(view)


def import_paths(view: ImageView) -> dict[str, str]:
    """Return absolute import paths, and why: libraries, PYTHONPATH, ``.pth`` files, the program's own folder."""
    found: dict[str, str] = {}
    for folder in view.folders:
        if _LIBRARY.search(folder):
            found[f"/{folder}"] = "Python's libraries"
    for part in view.config.variables.get("PYTHONPATH", "").split(":"):
        if part.startswith("/"):
            found.setdefault(posixpath.normpath(part), "PYTHONPATH")
    for entry in view.files.values():
        if entry.path.endswith(".pth") and entry.content and _LIBRARY.search(posixpath.dirname(entry.path)):
            for line in _lines(entry.content):
                if not _is_code(line):
                    folder = posixpath.normpath(posixpath.join("/", posixpath.dirname(entry.path), line))
                    found.setdefault(folder, format_untrusted(entry.path))
    for folder in _own_folders(view):
        found.setdefault(folder, "the program's own folder")
    return found


def _own_folders(view: ImageView) -> Iterator[str]:
    """Yield the first entry of sys.path: the script's folder, or the working folder for ``-m`` and ``-c``."""
    argv, workdir = view.config.argv, posixpath.join("/", view.config.workdir)
    for number, word in enumerate(argv):
        if not _PYTHON.search(word):
            continue
        rest = argv[number + 1 :]
        isolated = any(re.fullmatch(r"-[A-Za-z]*[IP][A-Za-z]*", word) for word in rest[:3])
        if isolated or view.config.variables.get("PYTHONSAFEPATH"):
            return
        script = next((word for word in rest if not word.startswith("-")), "")
        if script.endswith(".py"):
            yield posixpath.dirname(posixpath.normpath(posixpath.join(workdir, script)))
            return
        yield workdir
        return
    if argv and workdir != "/" and any(entry.path.endswith(".py") for entry in _children(view, workdir)):
        yield workdir  # uvicorn, gunicorn and others add it


def _children(view: ImageView, folder: str) -> Iterator[TarEntry]:
    place = view.resolve(folder)
    for name in view.folders.get(place, ()) if place is not None else ():
        entry = view.files.get(f"{place}/{name}" if place else name)
        if entry is not None:
            yield entry


def _check_writable(view: ImageView) -> Iterator[Finding]:
    identity = view.identity
    if not identity.uid:
        return
    paths = {view.resolve(path): (path, why) for path, why in import_paths(view).items()}
    seen: set[str] = set()
    for place, (path, why) in paths.items():
        way = find_write_access(view, path)
        if place is None or any(place.startswith(f"{other}/") or place == other for other in seen):
            continue
        if way:
            seen.add(place)
            what = f"{identity.description} may put modules into /{format_untrusted(place)} ({why}): {way}"
            yield _finding(view, view.files.get(place), place, what)
            continue
        bad = [e for e in view.below(place) if _is_code_file(e) and identity.may_write(e)]
        if bad:
            seen.add(place)
            names = ", ".join(f"/{format_untrusted(entry.path)}" for entry in bad[:_SHOWN])
            more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            what = f"{identity.description} may change {names}{more} in /{format_untrusted(place)} ({why})"
            yield _finding(view, bad[0], bad[0].path, what)


def _is_code_file(entry: TarEntry) -> bool:
    return entry.kind == "folder" or entry.path.endswith((".py", ".pyc", ".pth", ".zip", ".egg")) or ".so" in entry.path


def _check_startup(view: ImageView) -> Iterator[Finding]:
    for entry in view.files.values():
        if _CUSTOM.search(entry.path) and not _is_debians(view, entry):
            yield _startup(view, entry, f"{entry.path.rpartition('/')[2]} is imported at every start")
        elif entry.path.endswith(".pth") and _LIBRARY.search(posixpath.dirname(entry.path)):
            yield from _check_path_file(view, entry)


def _check_path_file(view: ImageView, entry: TarEntry) -> Iterator[Finding]:
    target = view.find(entry.path)
    if target is None or target.kind == "folder":
        return
    if target.content is None:
        yield _startup(view, entry, "may have code: it is too large to be read, or a link to another file")
        return
    known = _WELL_KNOWN.get(entry.path.rpartition("/")[2], ())
    code = [line for line in _lines(target.content) if _is_code(line) and line not in known]
    if code:
        yield _startup(view, entry, f"has code: {format_untrusted(code[0], 80)}")


def _is_debians(view: ImageView, entry: TarEntry) -> bool:
    """Return whether it is Debian's own file, or a link to that file, or a dangling link."""
    target = view.find(entry.path)
    return target is None or (entry.path.endswith("/sitecustomize.py") and target.content == _DEBIANS)


def _check_user_site(view: ImageView) -> Iterator[Finding]:
    variables, identity = view.config.variables, view.identity
    if not identity.uid or "PYTHONNOUSERSITE" in variables or not identity.home.startswith("/"):
        return
    python = find_python(view)
    if python is None or is_virtual(view, python):
        return
    home = identity.home.rstrip("/") or "/"
    way = find_write_access(view, f"{home}/.local")
    if way:
        what = f"/{python} imports from {format_untrusted(home)}/.local, where {identity.description} may write: {way}"
        yield Finding(rule=rules.USER_SITE, what=what, path=home.strip("/"))


def find_python(view: ImageView) -> str | None:
    """Return the path of the interpreter that ``python3`` or ``python`` means by PATH; links are not followed."""
    for folder in view.config.variables.get("PATH", "").split(":"):
        for name in ("python3", "python"):
            if folder.startswith("/") and view.find(f"{folder}/{name}") is not None:
                return f"{folder}/{name}".strip("/")
    return None


def is_virtual(view: ImageView, python: str) -> bool:
    """Return whether an interpreter belongs to a virtual environment without the system's packages."""
    folder = posixpath.dirname(posixpath.dirname(python))
    marks = [entry for path in (folder, posixpath.dirname(python)) if (entry := view.find(f"{path}/pyvenv.cfg"))]
    text = (marks[0].content or b"").decode("utf-8", "replace").lower() if marks else ""
    return bool(marks) and not re.search(r"(?m)^include-system-site-packages\s*=\s*true", text)


def _lines(content: bytes) -> list[str]:
    lines = content.decode("utf-8-sig", "replace").splitlines()  # site.py ignores a byte order mark, too
    return [line.rstrip() for line in lines if line.strip() and not line.startswith("#")]


def _is_code(line: str) -> bool:
    """Return whether site.py would run a line."""
    return line.startswith(("import ", "import\t"))


def _startup(view: ImageView, entry: TarEntry, what: str) -> Finding:
    layer = view.layers[entry.layer].digest
    return Finding(rule=rules.STARTUP_CODE, what=what, path=format_untrusted(entry.path, 4096), layer=layer)


def _finding(view: ImageView, entry: TarEntry | None, path: str, what: str) -> Finding:
    layer = view.layers[entry.layer].digest if entry is not None else ""
    return Finding(rule=rules.WRITABLE_CODE, what=what, path=format_untrusted(path, 4096), layer=layer)
