"""Trace what the service imports, and make the list of what its root keeps: ``stages/hardened/kept.txt``.

The service's own tests run in the development image, whose standard library is whole, with a tracer in every Python
process. It notes which module imports which, so that what pytest imports is not counted. The list are the modules that
the service's own files reach, those that Python needs whatever happens (``ALWAYS``), and the shared libraries that are
in the memory of a running service.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit.running.seccomp import PROFILE
from tests.reference.engine import Podman

LIBRARY = "/usr/lib/python3.13/"
WHOLE = "/whole"
ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "stages/hardened/kept.txt"
# what Python imports by itself when something goes wrong, or when a name, a time or a text is not the usual one
ALWAYS = (
    "traceback", "linecache", "tokenize", "warnings", "runpy", "_strptime", "zoneinfo", "locale", "threading",
    "encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.utf_8", "encodings.cp437", "stringprep",
)  # fmt: skip
OPTIONAL = ("psutil",)  # OpenTelemetry's SDK takes it where it is, and the service's image has none

TRACER = r'''
def trace():
    import atexit, builtins, importlib, json, os, sys
    edges, roots, first = {}, set(), sorted(sys.modules.keys() - {"__main__"})
    real, real_by_name = builtins.__import__, importlib.import_module

    def note(scope, names):
        scope = scope or {}
        importer, file = scope.get("__name__") or "", scope.get("__file__") or ""
        if not importer or (file.startswith("/app/") and not file.startswith("/app/tests/")):
            roots.add(importer)
        found = edges.setdefault(importer, set())
        for name in names:
            parts = name.split(".")
            found.update(".".join(parts[: count + 1]) for count in range(len(parts)))

    def absolute(name, scope, level):
        if not level:
            return name
        package = scope.get("__package__") or scope["__name__"]
        base = package.rsplit(".", level - 1)[0] if level > 1 else package
        return f"{base}.{name}" if name else base

    def traced(name, globals=None, locals=None, fromlist=(), level=0):
        module = real(name, globals, locals, fromlist, level)
        whole = absolute(name, globals or {}, level)
        parts = (f"{whole}.{one}" for one in fromlist or () if isinstance(one, str))
        note(globals or sys._getframe(1).f_globals, [whole, *(part for part in parts if part in sys.modules)])
        return module

    def traced_by_name(name, package=None):
        module = real_by_name(name, package)
        note(sys._getframe(1).f_globals, [module.__name__])
        return module

    def write():
        # modules that are built into the interpreter have files all the same, which tracebacks and Python's start need
        origins = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        main = getattr(sys.modules.get("__main__"), "__file__", None) or ""
        with open("/proc/self/maps") as maps:
            mapped = sorted({line.split()[-1] for line in maps if ".so" in line})
        found = {
            "edges": {name: sorted(names) for name, names in edges.items()}, "roots": sorted(roots), "first": first,
            "origins": origins, "main": main, "mapped": mapped,
        }
        with open(f"/trace/{os.getpid()}-{os.urandom(4).hex()}.json", "w") as file:
            json.dump(found, file)

    builtins.__import__, importlib.import_module = traced, traced_by_name
    atexit.register(write)

def borrow(whole):
    """Lend pytest, and what it imports of the standard library, to a process that lacks them; found last of all."""
    import sys
    from importlib.machinery import PathFinder
    library = whole + "/usr/lib/python3.13"
    top = [library, library + "/lib-dynload"]
    sys.path.append(whole + "/opt/venv/lib/python3.13/site-packages")

    class Lender:
        @staticmethod
        def find_spec(name, path=None, target=None):
            folder = name.rpartition(".")[0].replace(".", "/")
            return PathFinder.find_spec(name, [f"{library}/{folder}"] if folder else top)

    sys.meta_path.append(Lender)

import builtins, os
if builtins.__import__.__name__ != "traced":  # site reads this file twice, by lib and by lib64
    if "WHOLE" in os.environ:
        borrow(os.environ["WHOLE"])
    trace()
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What all processes imported: modules by importer, where they begin, their files, and libraries in memory."""

    edges: Mapping[str, set[str]]
    roots: set[str]
    origins: Mapping[str, str]
    libraries: set[str] = field(default_factory=set)

    def needed(self) -> set[str]:
        """Return the modules that the service reaches."""
        found: set[str] = set()
        todo = sorted(self.roots)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += (other for other in self.edges.get(name, ()) if not self._is_on_behalf(name, other))
        return found

    def _is_on_behalf(self, importer: str, name: str) -> bool:
        """Return whether others asked the standard library for a package by name, or it is pytest, in its plugins."""
        by_name = self._is_installed(name) and not self._is_installed(importer) and "__main__" not in importer
        return by_name or name.partition(".")[0] in ("_pytest", "pytest")

    def _is_installed(self, name: str) -> bool:
        return (self.origins.get(name) or "").startswith(("/opt/venv/", "/app/", f"{WHOLE}/opt/venv/"))

    def borrowed(self) -> dict[str, str]:
        """Return the modules that the service reaches and that were lent, with one that imports each."""
        needed = self.needed()
        lent = {
            name
            for name in needed
            if (self.origins.get(name) or "").startswith(WHOLE) and name.partition(".")[0] not in OPTIONAL
        }
        return {name: next(one for one in sorted(needed) if name in self.edges.get(one, ())) for name in sorted(lent)}

    def files(self) -> set[str]:
        """Return the files of the standard library that the service reaches."""
        return {path for name in self.needed() if (path := self.origins.get(name) or "").startswith(LIBRARY)}


def trace_service(podman: Podman, image: str, folder: Path, whole: str = "") -> Trace:
    """Run the service's own tests and its health check in an image; return what was imported.

    What the image lacks of pytest and of the standard library is lent by the image ``whole``, and found below WHOLE.
    """
    folder.chmod(0o777)
    (folder / "tracer.py").write_text(TRACER)
    (folder / "trace.pth").write_text("import sys; exec(open('/trace/tracer.py').read())\n")
    site = "/opt/venv/lib/python3.13/site-packages/zz_trace.pth"
    mounts = (f"--volume={folder}:/trace", f"--volume={folder}/trace.pth:{site}:ro")
    confined = ("--network=none", "--cap-drop=all", f"--security-opt=seccomp={PROFILE}", "--tmpfs=/tmp")
    options = ("--rm", *confined, *mounts)
    lent = (f"--mount=type=image,source={whole},destination={WHOLE}", f"--env=WHOLE={WHOLE}") if whole else ()
    tests = f"--volume={ROOT}/stages/development/tests:/app/tests:ro"
    podman("run", *options, *lent, tests, image, "python", "-B", "-m", "pytest", "-q", "/app/tests")
    podman("run", *options, image, "python", "-B", "/app/healthcheck.py", accept=(1,))
    podman("run", *options, image, "python", "-B", "-c", f"import {', '.join(ALWAYS)}")
    return read_traces(json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))


def read_traces(processes: Iterable[Mapping[str, Any]]) -> Trace:
    """Unite what the processes of the service and of its tests wrote."""
    edges: dict[str, set[str]] = {}
    roots, libraries, origins = set(ALWAYS), set(), {}
    for number, one in enumerate(processes):
        for name, names in one["edges"].items():
            edges.setdefault(_own(name, number), set()).update(names)
        roots.update(_own(name, number) for name in (*one["roots"], *one["first"]))
        origins.update({name: path for name, path in one["origins"].items() if path})
        if one["main"].startswith("/app/") and "/tests/" not in one["main"]:
            libraries.update(one["mapped"])
    return Trace(edges=edges, roots=roots, origins=origins, libraries=libraries)


def _own(name: str, process: int) -> str:
    """Tell the main modules of processes apart: one is the service, another is pytest."""
    return f"{name} {process}" if name == "__main__" else name


def render_list(trace: Trace) -> str:
    """Return the patterns of the list; whatever names the processor is written ``*``."""
    return "".join(f"{line}\n" for line in _lines(trace))


def _lines(trace: Trace) -> Iterator[str]:
    yield "# Made by `nox -s trim-hardened`: kept is what the service was seen to import, of these folders."
    yield "usr/lib/python3.13/**"
    for path in sorted({_neutral(path) for path in trace.files() if not path.endswith("/sitecustomize.py")}):
        yield f"!{path}"
        folder, _, name = path.rpartition("/")
        if name.endswith(".py"):
            yield f"!{folder}/__pycache__/{name[:-3]}.cpython-313.pyc"
    yield "usr/lib/*/*.so*"
    libraries = (path for path in trace.libraries if path.startswith("/usr/lib/") and not path.startswith(LIBRARY))
    for path in sorted({re.sub(r"\.so\..*", ".so.*", _neutral(path)) for path in libraries}):
        yield f"!{path}"


def _neutral(path: str) -> str:
    return re.sub(r"(?:x86_64|aarch64)-linux-gnu|(?<=ld-linux-)(?:x86-64|aarch64)", "*", path.lstrip("/"))


def main() -> None:
    """Build the development image, trace the service in it, and write the list."""
    from buildkit.declare.project import load_project
    from tests.containers import container_environment

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "nox", "-s", "build-development"], cwd=ROOT, check=True)
        podman = Podman(env=dict(os.environ) | container_environment(folder))
        (folder / "trace").mkdir()
        trace = trace_service(podman, load_project(ROOT).ref("development"), folder / "trace")
        LIST.write_text(render_list(trace), "utf-8")


if __name__ == "__main__":
    main()
