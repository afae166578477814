"""The settings of a project (``[tool.buildkit]`` in ``pyproject.toml``) and the names of its images."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildkit.declare.model_allowlist import LIBRARIES
from buildkit.declare.paths import check_target
from buildkit.declare.schema import (
    BooleanSchema,
    IntegerSchema,
    KeySchema,
    ListSchema,
    MapSchema,
    OneOrMoreSchema,
    TableSchema,
    TextSchema,
    ValueLocation,
)
from buildkit.declare.stage_schema import STAGE_NAME
from buildkit.declare.target import ARCH_NAMES, ARCHES, STANDALONE, Target
from buildkit.declare.toml import parse_toml
from buildkit.errors import DefinitionError, Problem
from buildkit.lazy_dataclass import dataclass

_FILE = "pyproject.toml"
_LOGIN = "podman login and skopeo login keep it outside of the repository"
_VERSION = TextSchema(r"[0-9]+\.[0-9]+", "a version (2.41)")


def _advise_arch(name: str) -> str:
    """Return the kernel's name for one that ``--arch`` takes, too."""
    arch = ARCH_NAMES.get(name.removeprefix("linux/"))
    return f"write `{arch}`" if arch else ""


_CACHE = TextSchema(
    r"(?![^/]*@[^/]*/)[^\0]*", "a repository of a registry without a login", instead=_LOGIN, advise=lambda _: _LOGIN
)
SETTINGS = TableSchema(
    {
        "name": KeySchema(
            TextSchema(STAGE_NAME, "an image name"),
            "images are localhost/NAME/STAGE (default: the project's name)",
        ),
        "locker": KeySchema(TextSchema(choices=("uv", "pip-tools")), "what resolves requirements (default: uv)"),
        "python": KeySchema(
            TextSchema(r"3\.[0-9]+(\.[0-9]+)?", "a Python version (3.13)"), "the images' Python (default: 3.13)"
        ),
        "glibc": KeySchema(_VERSION, "the images' C library (default: 2.41 (Debian 13))"),
        "arch": KeySchema(
            OneOrMoreSchema(TextSchema(choices=ARCHES, advise=_advise_arch)),
            "the images' processor, or a list of them (default: the host's)",
        ),
        "prefix": KeySchema(TextSchema(r"/[^\0:]+", "an absolute path"), "virtual environment (default: /opt/venv)"),
        "interpreter": KeySchema(
            TextSchema(r"/[^\0 ]+|standalone", "an absolute path or `standalone`"),
            "the images' Python, e.g. /usr/bin/python3; or standalone, which needs no Python in the root",
        ),
        "site-packages": KeySchema(
            TextSchema(choices=("own", "system")),
            "whether wheels see the packages that the root image brings (system), or not (default: own)",
        ),
        "bytecode": KeySchema(BooleanSchema(), "compile wheels' bytecode into their layers"),
        "bytecode-root": KeySchema(
            TextSchema(STAGE_NAME, "a stage name"), "stage whose interpreter compiles (default: base)"
        ),
        "builder": KeySchema(
            TextSchema(STAGE_NAME, "a stage name"), "stage in which sdists are compiled (default: builder)"
        ),
        "heavy": KeySchema(
            IntegerSchema(1, 1 << 40), "bytes from which a wheel gets a layer of its own (default: 1 MiB)"
        ),
        "bins": KeySchema(IntegerSchema(1, 64), "layers that the other wheels of a stage share (default: 8)"),
        "max-layers": KeySchema(IntegerSchema(2, 120), "layers an image may have (default: 64)"),
        "compression": KeySchema(
            TextSchema(choices=("zstd", "zstd:chunked", "gzip")), "how layers are stored and pushed (default: zstd)"
        ),
        "delivery": KeySchema(
            TextSchema(choices=("auto", "store", "import", "docker")),
            "where images go (default: auto, the image store where podman sees it, else an import)",
        ),
        "unscanned-models": KeySchema(
            TextSchema(choices=("refuse", "refuse-known", "warn")),
            "model files that cannot be fully scanned (default: refuse-known, which warns of unknown formats)",
        ),
        "commit-labels": KeySchema(
            BooleanSchema(), "whether pushed images have labels of the commit: revision and created (default: false)"
        ),
        "scan-allow": KeySchema(
            ListSchema(TextSchema(choices=LIBRARIES)),
            "libraries whose pickles the model scan accepts (default: none beyond NumPy, SciPy, scikit-learn, PyTorch)",
        ),
        "unscanned-wheels": KeySchema(
            TextSchema(choices=("refuse", "refuse-known", "warn")),
            "the same for models inside wheels of packages (default: refuse-known)",
        ),
        "cache": KeySchema(_CACHE, "registry repository of the remote cache that is read"),
        "cache-write": KeySchema(_CACHE, "registry repository of the remote cache that is written"),
        "labels": KeySchema(
            MapSchema(TextSchema(), key_pattern=r"[a-zA-Z0-9][a-zA-Z0-9._/-]*"),
            "labels of every image, over the derived ones",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A repository that builds images: its folder, its settings, and the labels of its images.

    ``arches`` are the processors that it has images for, ``host`` is that of this machine, and ``target`` has the one
    that this build is for. All are the kernel's names.
    """

    folder: Path
    name: str
    target: Target
    arches: tuple[str, ...] = ()
    host: str = ""
    locker: str = "uv"
    bytecode: bool = True
    bytecode_root: str = "base"
    builder: str = "builder"
    heavy: int = 1 << 20
    bins: int = 8
    max_layers: int = 64
    compression: str = "zstd"
    delivery: str = "auto"
    unscanned_models: str = "refuse-known"
    commit_labels: bool = False
    scan_allow: tuple[str, ...] = ()
    unscanned_wheels: str = "refuse-known"
    cache: str = ""
    cache_write: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def stored(self) -> dict[str, str]:
        """The entries of a recipe for the storage of layers: none for zstd."""
        return {} if self.compression == "zstd" else {"compression": self.compression}

    def ref(self, stage: str, tag: str = "") -> str:
        """Return the name of a stage's image in local storage: ``latest``, or ``latest-aarch64`` of another processor.

        Images that this machine runs by itself are ``latest``, as the only ones of a project are.
        """
        return f"localhost/{self.name}/{stage}:{tag or self._tag}"

    @property
    def _tag(self) -> str:
        return f"latest-{self.foreign_arch}" if self.foreign_arch else "latest"

    @property
    def foreign_arch(self) -> str:
        """The processor of the images if they have names of their own for it; empty for those that are ``latest``."""
        own = self.host if self.host in self.arches else next(iter(self.arches), self.target.arch)
        return "" if self.target.arch == own else self.target.arch

    def of_arch(self, arch: str) -> Project:
        """Return the same project for images of another of its processors; raises DefinitionError for one it lacks."""
        if arch not in self.arches:
            others = [name for name in ARCHES if name in (arch, *self.arches)]
            wanted = ", ".join(f'"{name}"' for name in others)
            raise DefinitionError(
                f"no image is for `{arch}`: the project has {' and '.join(self.arches)}",
                hint=f"set arch = [{wanted}] in [tool.buildkit], then run: nox -s lock" if arch in ARCHES else "",
            )
        lock_arch = "" if arch == self.arches[0] else arch
        return replace(self, target=replace(self.target, arch=arch, lock_arch=lock_arch))

    def of_each_arch(self) -> tuple[Project, ...]:
        """Return the project once for each of its processors, in their order."""
        return tuple(map(self.of_arch, self.arches)) or (self,)


def load_project(folder: Path, arch: str = "") -> Project:
    """Read the settings of the repository at ``folder``; a missing pyproject.toml means all defaults.

    ``arch`` is the processor to build for, by one of its names (``aarch64``, ``arm64``); the default is the host's or,
    if the project has no images for that, the first of the project. Raises DefinitionError with every problem found.
    """
    path = folder / _FILE
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
    except UnicodeDecodeError:
        raise DefinitionError(f"{_FILE}: not UTF-8 text") from None
    project = parse_project(text, folder)
    return project.of_arch(ARCH_NAMES.get(arch, arch)) if arch else project


def parse_project(text: str, folder: Path) -> Project:
    """Parse the text of pyproject.toml; see ``load_project``."""
    table = parse_toml(text, _FILE)
    problems: list[Problem] = []
    place = ValueLocation(_FILE, problems).at("tool.buildkit")
    settings = SETTINGS.read(_without_secrets(_table(table, "tool").get("buildkit", {}), place), place) or {}
    about = _table(table, "project")
    name = settings.pop("name", None) or _image_name(str(about.get("name", folder.name)))
    arches, host = _arches(settings, place.at("arch")), platform.machine()
    target = _target(settings, host if host in arches else arches[0], arches[0])
    check_target(target.prefix, place.at("prefix"))
    if target.standalone and target.prefix.rstrip("/") == STANDALONE:
        place.at("prefix").report(f"`{STANDALONE}` is the folder of the standalone interpreter", "such as /opt/venv")
    if target.standalone and target.sees_system:
        place.at("site-packages").report("`system` has no effect", "a standalone interpreter sees nothing of the root")
    labels = tuple(sorted((_labels(about) | dict(settings.pop("labels", ()))).items()))
    if problems:
        raise DefinitionError.of(problems)
    return Project(folder=folder, name=name, target=target, arches=arches, host=host, labels=labels, **settings)


def _without_secrets(table: Any, place: ValueLocation) -> Any:  # noqa: ANN401 - TOML
    """Report sources of secrets: whoever may change a repository would read any file and variable of its builders."""
    if not isinstance(table, dict) or "secrets" not in table:
        return table
    place.at("secrets").report(
        "a repository must not say where secrets are",
        "remove it, and give them to the build: --secret id=NAME,src=FILE; see docs/supply-chain.md for other ways",
    )
    return {key: value for key, value in table.items() if key != "secrets"}


def _arches(settings: dict[str, Any], place: ValueLocation) -> tuple[str, ...]:
    """Return the processors of the images; the host's without a setting."""
    chosen = settings.pop("arch", None) or ()
    if not chosen and (host := platform.machine()) not in ARCHES and not place.faulty:
        place.report(
            f"this host is `{host}`, and images are made for {' or '.join(ARCHES)}", "set `arch` to one of them"
        )
    arches = (chosen,) if isinstance(chosen, str) else chosen or (platform.machine(),)
    if len(set(arches)) < len(arches):
        place.report("names a processor twice")
    if len(arches) > 1 and settings.get("locker") == "pip-tools":
        place.report(
            "names several processors, and pip-tools resolves for that of the machine it runs on",
            'set locker = "uv", whose locks hold for every processor',
        )
    return arches


def _target(settings: dict[str, Any], arch: str, first: str) -> Target:
    python = settings.pop("python", "3.13")
    minor = ".".join(python.split(".")[:2])
    interpreter = settings.pop("interpreter", f"/usr/bin/python{minor}")
    standalone = interpreter == "standalone"
    return Target(
        python=python,
        glibc=settings.pop("glibc", "2.41"),
        arch=arch,
        lock_arch="" if arch == first else arch,
        prefix=settings.pop("prefix", "/opt/venv"),
        interpreter=f"{STANDALONE}/bin/python{minor}" if standalone else interpreter,
        standalone=standalone,
        sees_system=settings.pop("site_packages", "own") == "system",
    )


def _table(above: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table that other tools define; they report a value that is not a table."""
    value = above.get(key)
    return value if isinstance(value, dict) else {}


def _image_name(text: str) -> str:
    kept = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text.lower())
    return "-".join(part for part in kept.split("-") if part) or "project"


def _labels(about: dict[str, Any]) -> dict[str, str]:
    """Return labels for the annotations of the image specification that pyproject.toml answers."""
    urls = {key.lower(): value for key, value in _table(about, "urls").items()}
    known = {
        "version": about.get("version"),
        "licenses": about.get("license"),
        "source": urls.get("repository") or urls.get("source"),
        "url": urls.get("homepage"),
        "documentation": urls.get("documentation"),
    }
    return {f"org.opencontainers.image.{key}": value for key, value in known.items() if isinstance(value, str)}
