"""Check whether every native file of an image can be loaded, by simulating the dynamic linker; nothing is run.

A file is *started* if it is a program in a folder of PATH or a module that Python imports; a library missing there is
severe. Other files are loaded by name at run time, if at all, and count for less. A name that is missing for many files
is one finding, which names the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field

from buildkit.declare.target import SYSTEM_PATH
from buildkit.digits import find_number
from buildkit.findings import Finding, Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.native import known_libraries, rules
from buildkit.native.debian_packages import find_package, find_suite
from buildkit.native.elf import SHARED, Elf
from buildkit.native.facts import PRELOAD, RELEASE, NativeView
from buildkit.native.linker import Linker, LinkLimitError, LoadedFiles

ARCHITECTURES = {
    "amd64": (62, 64), "arm64": (183, 64), "386": (3, 32), "i386": (3, 32), "arm": (40, 32), "armhf": (40, 32),
    "riscv64": (243, 64), "s390x": (22, 64), "ppc64le": (21, 64), "ppc64el": (21, 64), "loong64": (258, 64),
}  # fmt: skip
"""ELF machine and class, by the architecture names of OCI and Debian."""
_FAMILIES = ("GLIBC_", "GLIBCXX_", "CXXABI_", "GCC_", "GFORTRAN_", "GOMP_")
_PYTHON = ("python3", "python")
_COUNTED = 999  # files that one finding counts at most


def check_native(view: NativeView, env: Mapping[str, str], arch: str = "") -> list[Finding]:
    """Return everything that keeps files of an image from being loaded, the most severe first.

    ``env`` is the environment of the image's config and ``arch`` its architecture (``amd64``); if that is empty or
    unknown, the architecture of most of its files counts. ``layer`` of a finding is the view's name of the layer.
    """
    return _Check(view, env, arch).run()


@dataclass(slots=True)
class _Problem:
    """One missing name and the files that need it, the most severe first."""

    rule: Rule
    what: str
    severity: Severity
    path: str
    others: dict[str, None] = field(default_factory=dict)


class _Check:
    def __init__(self, view: NativeView, env: Mapping[str, str], arch: str) -> None:
        self._view = view
        self._facts = view.facts
        self._files = view.facts.files
        self._env = env
        self._linker = Linker(view.facts, env)
        self._machine = ARCHITECTURES.get(arch) or _most_common(self._files.values())
        self._problems: dict[tuple[str, str], _Problem] = {}
        self._lacking_by_file: dict[tuple[str, str], tuple[str, ...]] = {}
        self._suite = self._find_suite()
        self._names = _by_name(self._files)
        self._reached: set[str] = set()

    def run(self) -> list[Finding]:
        for path, why in self._facts.unread.items():
            self._add(rules.UNREAD, path, why, f"it cannot be read: {why}", Severity.NOTE)
        try:
            self._start_all()
        except LinkLimitError:
            what = "the check of its native files stopped at a limit of steps"
            self._add(rules.UNFINISHED, next(iter(self._files)), "", what, Severity.MEDIUM)
        findings = [self._finding(problem) for problem in self._problems.values()]
        return sorted(findings, key=lambda finding: (-finding.severity, finding.rule.id, finding.path, finding.what))

    # started files

    def _start_all(self) -> None:
        programs, modules = self._programs(), [path for path in self._files if known_libraries.is_module(path)]
        own = [path for path in (*programs, *modules) if self._fits(path)]
        for path in own:
            self._check_file(path)
        python = self._python(programs)
        for path in own:
            self._start(path, None if path in programs else python, Severity.HIGH)
        for path in self._files:
            if path not in self._reached and not known_libraries.is_foreign(path) and self._fits(path):
                self._check_file(path)
                packaged = known_libraries.is_packaged(path)
                self._start(path, python if packaged else None, Severity.MEDIUM)

    def _start(self, path: str, before: LoadedFiles | None, severity: Severity) -> None:
        """Load one file and check everything that it loads."""
        loaded = self._linker.load(path, before)
        severity = Severity.LOW if known_libraries.is_optional(path) else severity
        for missing in loaded.missing:
            self._add_missing(missing.path, missing.name, path, severity)
        for file in loaded.order[len(before.order) if before else 0 :]:
            if file in self._files:
                self._reached.add(file)
                self._check_versions(file, loaded, severity)

    def _programs(self) -> dict[str, None]:
        """Return the real paths of the programs that a shell would find, and of the files preloaded into them."""
        path = self._env.get("PATH", "") or SYSTEM_PATH
        folders = {self._linker.folder(folder) for folder in path.split(":") if folder.startswith("/")}
        programs = [file for file in self._files if file.rpartition("/")[0] in folders]
        words = f"{self._env.get('LD_PRELOAD', '')} {self._facts.texts.get(PRELOAD, '')}".replace(":", " ").split()
        loaded = (self._linker.find(word) for word in words if word.startswith("/"))
        return dict.fromkeys((*programs, *(file for file in loaded if file is not None and file in self._files)))

    def _python(self, programs: Iterable[str]) -> LoadedFiles | None:
        """Return the files in memory when a module is imported: the interpreter and its libraries."""
        for path in programs:
            if path.rpartition("/")[2].startswith(_PYTHON) and self._files[path].interpreter:
                return self._linker.load(path)
        return None

    # problems of one file

    def _fits(self, path: str) -> bool:
        """Tell whether a file is for the image's machine; report one that is not."""
        elf = self._files[path]
        if (elf.machine, elf.bits) == self._machine:
            return True
        if elf.kind == SHARED or elf.interpreter:  # others are objects, firmware or stand-alone programs
            module = known_libraries.is_module(path) and known_libraries.is_tagged(path)
            severity = Severity.HIGH if module else Severity.NOTE
            what = f"it is for {elf.architecture}, unlike the image"
            self._add(rules.MACHINE, path, elf.architecture, what, severity)
        return False

    def _check_file(self, path: str) -> None:
        elf = self._files[path]
        program = bool(elf.interpreter) and not elf.soname
        if program and self._linker.find(elf.interpreter) is None:
            severity = Severity.NOTE if known_libraries.is_packaged(path) else Severity.HIGH
            what = f"its dynamic linker {elf.interpreter} is not in the image"
            self._add(rules.INTERPRETER, path, elf.interpreter, what, severity)
        if self._linker.musl and any(name.startswith("GLIBC_") for _, names in elf.versions for name in names):
            severity = Severity.HIGH if known_libraries.is_module(path) or program else Severity.LOW
            self._add(rules.LIBC, path, "", "it was built for glibc, and the image has musl", severity)

    def _check_versions(self, path: str, loaded: LoadedFiles, severity: Severity) -> None:
        for name, versions in self._files[path].versions:
            found = loaded.names.get(name)
            lacking = self._lacking_versions(path, found, versions) if found in self._files else ()
            for version in lacking:
                rule = rules.OLD if version.startswith(_FAMILIES) else rules.VERSION
                has = _newest(self._files[found or ""].defines, version)
                what = f"it needs {version}, and {name} of the image ({found}) {has}"
                self._add(rule, path, f"{name} {version}", what, severity)

    def _lacking_versions(self, path: str, found: str | None, needed: tuple[str, ...]) -> tuple[str, ...]:
        """Return the newest version that ``found`` lacks; a library without versions passes, as for the linker."""
        key = (path, found or "")
        if key not in self._lacking_by_file:
            has = self._files[found or ""].defines
            lacking = {version for version in needed if version not in has} if has else set()
            self._lacking_by_file[key] = tuple(sorted(lacking, key=lambda version: (_numbers(version), version))[-1:])
        return self._lacking_by_file[key]

    def _add_missing(self, path: str, name: str, started: str, severity: Severity) -> None:
        """Report that a name is not found, with the severity that fits the library."""
        if known_libraries.is_driver(name):
            self._add(rules.DRIVER, path, name, f"it needs {name} of the GPU's driver", Severity.NOTE)
            return
        candidates = [file for file in self._names.get(name, ()) if self._same_machine(file, path)]
        if candidates:
            packaged = known_libraries.is_packaged(candidates[0]) and known_libraries.is_packaged(path)
            rule, level = (rules.BEFORE, Severity.NOTE) if packaged else (rules.OFF_PATH, Severity.LOW)
            what = f"it needs {name}, which is at {candidates[0]}, outside its search path"
            self._add(rule, path, name, what, level)
            return
        if severity < Severity.HIGH and known_libraries.is_accelerator(name):
            severity = Severity.LOW
        loaded_for = "" if started == path else f" (loaded for {started})"
        what = f"it needs {name}{loaded_for}, which is nowhere in the image{self._advise(name)}"
        self._add(rules.MISSING, path, name, what, severity)

    def _advise(self, name: str) -> str:
        found = find_package(name, self._suite) if self._suite is not None else None
        if found is None or (known_libraries.is_accelerator(name) and not found.known):
            return ""
        return f"; the Debian package {found.name} has it" if found.known else f"; Debian's is probably {found.name}"

    def _find_suite(self) -> str | None:
        texts = [self._facts.texts[path] for path in RELEASE if path in self._facts.texts]
        return find_suite(texts[0]) if texts else ""

    def _same_machine(self, one: str, other: str) -> bool:
        first, second = self._files[one], self._files[other]
        return (first.machine, first.bits) == (second.machine, second.bits)

    # findings

    def _add(self, rule: Rule, path: str, name: str, what: str, severity: Severity) -> None:
        problem = self._problems.get((rule.id, name))
        if problem is None:
            self._problems[(rule.id, name)] = _Problem(rule, what, severity, path)
        elif path != problem.path and severity > problem.severity:
            problem.others[problem.path] = None
            problem.rule, problem.what, problem.severity, problem.path = rule, what, severity, path
        elif path != problem.path and len(problem.others) < _COUNTED:
            problem.others[path] = None

    def _finding(self, problem: _Problem) -> Finding:
        count = len(problem.others)
        least = "at least " if count >= _COUNTED else ""
        more = f" (and {least}{count} other file{'s' if count > 1 else ''})" if count else ""
        override = None if problem.severity == problem.rule.severity else problem.severity
        layer = self._view.layers.get(problem.path, "")
        return Finding(rule=problem.rule, what=problem.what + more, path=problem.path, layer=layer, override=override)


def _most_common(files: Iterable[Elf]) -> tuple[int, int]:
    counts: dict[tuple[int, int], int] = {}
    for elf in files:
        counts[elf.machine, elf.bits] = counts.get((elf.machine, elf.bits), 0) + 1
    return max(counts, key=lambda kind: counts[kind], default=(0, 0))


def _by_name(files: Mapping[str, Elf]) -> dict[str, list[str]]:
    """Return the libraries by each name that a file could need them under."""
    paths: dict[str, list[str]] = {}
    for path, elf in files.items():
        for name in sorted({elf.soname, path.rpartition("/")[2]} - {""}):
            paths.setdefault(name, []).append(path)
    return paths


def _newest(defines: Iterable[str], version: str) -> str:
    """Describe what a library has instead of a version."""
    family = version.rpartition("_")[0] + "_"
    same = [name for name in defines if name.startswith(family) and _numbers(name)]
    return f"has no more than {max(same, key=_numbers)}" if same and _numbers(version) else "does not have it"


def _numbers(version: str) -> tuple[int, ...]:
    parts: Iterator[str] = iter(version.rpartition("_")[2].split("."))
    numbers = [find_number(part) for part in parts]
    return tuple(number for number in numbers if number is not None) if None not in numbers else ()
