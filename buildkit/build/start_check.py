"""Warns when a built image cannot start: a program, a module, a user or an interpreter that is not in it.

Each set of layers and run config is checked once, and the lines are kept, so a build with nothing to do looks up one
row. Where a layer's listing is not on this host, the machine that built it has warned.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from buildkit.build.context import BuildContext
from buildkit.declare.schema import suggest_word
from buildkit.declare.target import SYSTEM_PATH, Target
from buildkit.digest import Key, canonical_json
from buildkit.errors import BuildError
from buildkit.events import Note
from buildkit.oci.image import Image, render_config
from buildkit.oci.run_config import inherit_config
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind

if TYPE_CHECKING:
    from buildkit.build.image_paths import ImagePaths

_RULES_VERSION = 2  # raised when the same image would be judged otherwise
_KEYS = ("Cmd", "Entrypoint", "Env", "User", "WorkingDir")
_WRAPPERS = ("tini", "dumb-init", "catatonit")
_MINORS = range(7, 20)  # releases of Python 3 that a root may have
_PYTHON = re.compile(r"python(3(\.[0-9]+)?)?")
_MOST_HEAD = 256  # bytes, as Linux reads
_EXECUTABLE_ENDS = (" +x", "special")


def warn_of_start(composition: Composition, image: Image, context: BuildContext) -> None:
    """Emit a warning for each reason why a container of the image would not start."""
    if not composition.root:
        return  # layers for other stages to include: nothing starts in them
    config = inherit_config(json.loads(image.inherited), render_config(image.config))
    config = {key: config[key] for key in _KEYS if config.get(key)}
    parts = ["start", _RULES_VERSION, config, [spec.key.hex for spec in composition.specs]]
    key, store = Key.of(canonical_json([*parts, str(context.project.target)]).encode()), context.ledger.starts
    lines = store.find(key)
    if lines is None:
        with context.meter.phase("look"):
            found = _check(composition, config, context)
        if found is None:
            return
        lines = found
        store.add(key, lines)
    for line in lines:
        context.emit(Note(text=f"will not start: {line}", warning=True))


def _check(composition: Composition, config: dict[str, Any], context: BuildContext) -> tuple[str, ...] | None:
    from buildkit.build.image_paths import ImagePaths, UnknownListingError

    try:
        check = StartCheck(ImagePaths(context, composition.specs), config, composition.stage.file)
        has_prefix = any(spec.kind is Kind.PREFIX for spec in composition.layers)
        interpreter = find_missing_interpreter(check.paths, context.project.target) if has_prefix else ""
        return tuple(filter(None, (interpreter, *check.run())))
    except (UnknownListingError, BuildError):
        return None  # a damaged blob is reported by whatever needs its bytes


def find_missing_interpreter(paths: ImagePaths, target: Target) -> str:
    """Return what is wrong if the target's interpreter is not among ``paths``; empty if it is."""
    if paths.find(target.interpreter) is not None:
        return ""
    places = (f"{folder}/python3.{minor}" for folder in ("/usr/bin", "/usr/local/bin") for minor in _MINORS)
    present = [place for place in places if paths.find(place) is not None]
    has = f"it has {' and '.join(present)}" if present else "it has no Python"
    fix = f'python = "{present[0].rpartition("python")[2]}"' if present else "a package such as python3 in its apt list"
    return (
        f"{target.prefix} has no Python: {target.interpreter} is not in the root; {has} "
        f"({fix}, or `interpreter` in [tool.buildkit], settles it)"
    )


class StartCheck:
    """Checks the command and the user of a run config against the ``paths`` of an image; ``file`` is the stage's."""

    def __init__(self, paths: ImagePaths, config: dict[str, Any], file: str) -> None:
        self.paths = paths
        self._file = file
        env = dict(line.partition("=")[::2] for line in config.get("Env", ()))
        self._folders = env.get("PATH", SYSTEM_PATH).split(":")
        self._modules = [folder for folder in env.get("PYTHONPATH", "").split(":") if folder]
        self._workdir = config.get("WorkingDir") or "/"
        self._user = config.get("User", "")
        self._argv = _unwrap([*config.get("Entrypoint", ()), *config.get("Cmd", ())])

    def run(self) -> Iterator[str]:
        """Yield what is wrong, each as one line."""
        for argv in self._argv:
            problem = self._check_program(argv[0])
            yield problem or self._check_python(argv)
        name, _, group = self._user.partition(":")
        yield self._check_account(name, "user", "etc/passwd")
        yield self._check_account(group, "group", "etc/group")

    def _check_program(self, word: str) -> str:
        places = [self._below(word)] if "/" in word else [posixpath.join(folder, word) for folder in self._folders]
        found = [content for place in places if (content := self.paths.find(place)) is not None]
        where = places[0] if "/" in word else f"`{word}`"
        if any(content.endswith(_EXECUTABLE_ENDS) for content in found):
            problem = self._check_script(places[0]) if "/" in word else ""
            return f"{where} of the command {problem} ({self._file}, [config])" if problem else ""
        if found:
            return f"{where} of the command is not executable ({self._file}, [config]; git update-index --chmod=+x)"
        if "/" in word:
            return f"{where} of the command is nowhere in the image ({self._file}, [config])"
        names = sorted({name for folder in self._folders for name in self.paths.names(folder)})
        if word in names:
            return f"{where} of the command is a link that leads nowhere ({self._file}, [config])"
        hint = suggest_word(word, names) or "is its package in the locks of the stage?"
        return f"{where} of the command is in no folder of PATH ({self._file}, [config]); {hint}"

    def _check_script(self, place: str) -> str:
        """Return what is wrong with a copied script's first line, which names the program that runs it."""
        source = self.paths.find_copied(place)
        if source is None:
            return ""
        try:
            with source.open("rb") as file:
                head = file.read(_MOST_HEAD)
        except OSError:
            return ""  # it has changed meanwhile, which the next build sees
        if head.startswith(b"\x7fELF"):
            return ""
        line = head.partition(b"\n")[0].decode("utf-8", "replace")
        words = line[2:].split()
        if not line.startswith("#!") or not words:
            return "has no first line #!/PROGRAM, so nothing runs it"
        if line.endswith("\r"):
            return "has the line ends of Windows"
        if posixpath.basename(words[0]) != "env":
            return "" if self.paths.find(words[0]) else f"is run by {words[0]}, which is nowhere in the image"
        name = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
        if any(self.paths.find(posixpath.join(folder, name)) for folder in self._folders):
            return ""
        return f"is run by {name}, which is in no folder of PATH"

    def _check_python(self, argv: Sequence[str]) -> str:
        """Check the module or the script that Python is to run."""
        if not _PYTHON.fullmatch(posixpath.basename(argv[0])) or len(argv) < 2:
            return ""
        if argv[1] == "-m" and len(argv) > 2:
            return self._check_module(argv[2])
        if argv[1].endswith(".py") and self.paths.find(self._below(argv[1])) is None:
            return f"{self._below(argv[1])}, which Python is to run, is nowhere in the image ({self._file}, [config])"
        return ""

    def _check_module(self, module: str) -> str:
        top = module.partition(".")[0]
        libraries = (f"{lib}/python3.{n}" for lib in ("/usr/local/lib", "/usr/lib") for n in _MINORS)
        standard = [folder for folder in libraries if self.paths.find(f"{folder}/os.py") is not None]
        if not standard:
            return ""  # a Python of another kind: its folders are not known
        prefixes = [posixpath.dirname(folder) for folder in self._folders if folder.endswith("/bin")]
        releases = [posixpath.basename(folder) for folder in standard]
        kinds = ("site-packages", "dist-packages")
        sites = [f"{prefix}/lib/{release}/{kind}" for prefix in prefixes for release in releases for kind in kinds]
        packaged = ["/usr/lib/python3/dist-packages", "/usr/local/lib/python3/dist-packages"]
        for folder in (self._workdir, *self._modules, *standard, *sites, *packaged):
            ends = (".py", "/__init__.py", "/__main__.py")
            if any(self.paths.find(posixpath.join(folder, f"{top}{end}")) is not None for end in ends):
                return ""
        return f"the module `{top}`, which Python is to run, is nowhere in the image ({self._file}, [config])"

    def _check_account(self, name: str, what: str, path: str) -> str:
        if not name or name.isdecimal():
            return ""
        text = self.paths.read_text(path)
        if text is None and self.paths.find(f"/{path}") is not None:
            return ""  # its bytes are not here
        names = [line.partition(":")[0] for line in (text or "").splitlines()]
        if name in names:
            return ""
        hint = suggest_word(name, names) or "add it by [[root.user]], or name it by its number"
        return f"the {what} `{name}` is not in /{path} of the image ({self._file}, [config]); {hint}"

    def _below(self, word: str) -> str:
        return posixpath.normpath(posixpath.join(self._workdir, word))


def _unwrap(argv: list[str]) -> list[list[str]]:
    """Return the commands that must exist: that of an init, such as tini, and what it starts."""
    if not argv:
        return []
    if posixpath.basename(argv[0]) not in _WRAPPERS:
        return [argv]
    rest = argv[argv.index("--") + 1 :] if "--" in argv else [word for word in argv[1:] if not word.startswith("-")]
    return [argv[:1], rest] if rest else [argv[:1]]
