"""Random small projects as values, for Hypothesis."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st

from buildkit.digest import FileHash

BASE, BUILDER = "requirements/base.apt", "requirements/builder.apt"
DEPS, OWN, BUILD = "requirements/deps.txt", "requirements/own.txt", "requirements/build.txt"
MODELS = "requirements/models.lock"
APP = "stages/runtime/app"
HEAVY = 1000
LARGE = 8 << 20

ODD = st.text("ab $#='\"\\\té/", min_size=1, max_size=8)
VERSION = st.integers(0, 99).map(lambda number: f"1.{number}")
_NAMES = ("alpha", "beta", "gamma", "delta", "app", "bin-1", "zeta", "eta", "theta", "iota", "kappa", "a-b")


def sha(*parts: object) -> str:
    """A hash that stands for some content."""
    return FileHash.of(repr(parts).encode()).hex


class File(NamedTuple):
    """A file of the checkout: text (a link's target), and ``file``, ``exec`` or ``link``."""

    text: str
    kind: str = "file"


@dataclass
class Small:
    """A project as values. Tables are TOML tables; ``apts`` are pins by list, ``wheels`` artifacts by lock."""

    settings: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    apts: dict[str, dict[str, str]]
    wheels: dict[str, list[dict[str, Any]]]
    models: list[dict[str, Any]]
    files: dict[str, File]
    ignored: list[str] = field(default_factory=list)

    def copy(self) -> Small:
        """Another one that means the same."""
        return deepcopy(self)

    @property
    def root(self) -> dict[str, Any]:
        """The table of the root."""
        found: dict[str, Any] = self.stages["base"]["root"]
        return found

    @property
    def step(self) -> dict[str, Any]:
        """The table of the builder's first step."""
        found: dict[str, Any] = self.stages["builder"]["run"][0]
        return found

    def artifacts(self, name: str) -> list[dict[str, Any]]:
        """A distribution's tables in every lock."""
        return [entry for lock in self.wheels.values() for entry in lock if entry["name"] == name]


def wheel(name: str, version: str, size: int) -> dict[str, Any]:
    """The table of a wheel."""
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return {"name": name, "version": version, "file": file, "sha256": sha(file), "size": size}


def sdist(name: str, version: str) -> dict[str, Any]:
    """The table of an sdist."""
    file = f"{name}-{version}.tar.gz"
    return {"name": name, "version": version, "file": file, "sha256": sha(file), "size": 500}


@st.composite
def projects(draw: st.DrawFn, *, debian: bool | None = None) -> Small:
    """Projects with at least one of everything; on a root made of Debian's packages, a registry's, or either."""
    debian = draw(st.booleans()) if debian is None else debian
    names = draw(st.permutations(_NAMES))
    sizes = st.sampled_from([1, 700, HEAVY - 1, HEAVY, 5000])
    wheels = {
        DEPS: [
            *(wheel(name, draw(VERSION), draw(sizes)) for name in names[: draw(st.integers(2, 5))]),
            sdist(names[6], draw(VERSION)),
            {"name": "local", "version": "1", "path": "./libs/local"},
        ],
        BUILD: [wheel("build", draw(VERSION), draw(sizes))],
        OWN: [wheel(names[7], draw(VERSION), draw(sizes)), wheel(names[8], draw(VERSION), HEAVY)],
    }
    if draw(st.booleans()):
        wheels[OWN].append(dict(wheels[DEPS][0]))  # two locks may agree on a pin
    settings: dict[str, Any] = {"name": "p", "arch": "x86_64", "heavy": HEAVY}
    if draw(st.booleans()):
        settings |= draw(st.fixed_dictionaries({}, optional=_SETTINGS))
    project = Small(
        settings=settings,
        stages={
            "base": {"summary": "base", "root": draw(_debian if debian else _image)},
            "builder": draw(_builder(debian=debian)),
            "deps": {"summary": "deps", "wheels": {"locks": [DEPS]}},
            "weights": {"summary": "weights", "models": {"lock": MODELS}},
            "runtime": draw(_runtime),
        },
        apts={
            BASE: {"libc6": draw(VERSION), "zlib1g": draw(VERSION)}
            | draw(st.sampled_from([{}, {"python3.13": "3.13.5-1"}])),
            BUILDER: {"gcc": draw(VERSION)},
        },
        wheels=wheels,
        models=draw(_models()),
        files={name: File(text, kind) for name, (text, kind) in _FILES.items()},
        ignored=["**/*.log", "!**/keep.log"],
    )
    if draw(st.booleans()):
        project.stages["builder"]["wheels"] = {"locks": [BUILD]}
    if draw(st.booleans()):
        project.stages["runtime"]["wheels"] = {"locks": [OWN]}
    return project


_SETTINGS = {
    "bytecode": st.booleans(),
    "python": st.sampled_from(["3.13", "3.13.5"]),
    "prefix": st.just("/srv/env"),
    "interpreter": st.sampled_from(["/usr/bin/python3", "/usr/local/bin/python"]),
    "bins": st.integers(1, 9),
}
_user = st.fixed_dictionaries(
    {"name": st.just("ml"), "uid": st.integers(1, 60000)},
    optional={"gid": st.integers(1, 60000), "home": st.just("/srv"), "shell": st.just("/bin/sh")},
)
_debian = st.fixed_dictionaries(
    {"suite": st.sampled_from(["trixie", "forky"]), "packages": st.just(BASE)},
    optional={
        "variant": st.sampled_from(["minbase", "extract", "apt"]),
        "components": st.sampled_from([["main"], ["main", "contrib"]]),
        "exclude": st.lists(st.sampled_from(["usr/share/man/**", "!usr/share/man/x", "a'b"]), max_size=3),
        "drop-setuid": st.booleans(),
        "user": st.lists(_user, min_size=1, max_size=1),
    },
)
_image = st.integers(0, 9).map(lambda number: {"image": f"docker.io/x/y:1@sha256:{sha(number)}"})
_env = st.dictionaries(st.sampled_from(["A", "B", "LONG_NAME"]), ODD, min_size=1)


@st.composite
def _builder(draw: st.DrawFn, debian: bool) -> dict[str, Any]:
    script = st.fixed_dictionaries({"script": st.one_of(ODD, st.just("one\ntwo 'x'\n"))})
    command = st.fixed_dictionaries({"command": st.lists(ODD, min_size=1, max_size=3)})
    first: dict[str, Any] = draw(st.one_of(script, command)) | {
        "name": "prepare",
        "env": draw(_env),
        "mount": [
            {"source": "#tools", "target": "/mnt"},
            *draw(st.lists(st.just({"source": "#tools/t.sh", "target": "/srv"}), max_size=1)),
        ],
    }
    more = draw(st.lists(st.one_of(script, command), max_size=2))
    stage = {"summary": "b", "from": "base", "run": [first, *more], "config": {"env": draw(_env)}}
    return stage | ({"apt": {"packages": BUILDER}} if debian else {})


_runtime = st.fixed_dictionaries(
    {
        "summary": ODD,
        "from": st.just("base"),
        "include": st.permutations(["deps", "weights"]),
        "copy": st.just([{"source": "app", "target": "/app"}, {"source": "conf.ini", "target": "/etc/conf.ini"}]),
        "config": st.fixed_dictionaries(
            {"env": _env},
            optional={
                "cmd": st.lists(ODD, min_size=1, max_size=3),
                "labels": st.dictionaries(st.sampled_from(["a", "b.c"]), ODD),
                "healthcheck": st.fixed_dictionaries({"test": st.just(["x"])}, optional={"interval": st.just(5)}),
                "ports": st.just(["80", "53/udp"]),
            },
        ),
    }
)


@st.composite
def _models(draw: st.DrawFn) -> list[dict[str, Any]]:
    def files(model: str) -> list[dict[str, Any]]:
        sizes = draw(st.lists(st.sampled_from([1, LARGE - 1, LARGE, LARGE + 5]), min_size=1, max_size=3))
        return [
            {"path": f"f{n}.bin", "sha256": sha(model, n), "size": size, "source": f"https://x.org/{model}/{n}"}
            for n, size in enumerate(sizes)
        ]

    text = "weights of ours"
    own = {"path": "w.bin", "sha256": FileHash.of(text.encode()).hex, "size": len(text), "source": "weights/w.bin"}
    common = {"license": "MIT", "request": sha("request")}
    return [
        {"name": "vad", "version": "1", "source": "https://x.org/vad", **common, "file": files("vad")},
        {"name": "own", "version": "", "source": "path:weights", **common, "file": [own]},
        {
            "name": "inside", "version": "2", "source": "pypi:inside", **common, "file": files("inside"),
            "wheel": wheel("inside", "2", 9),
        },
    ]  # fmt: skip


_FILES = {
    f"{APP}/main.py": ("print(1)\n", "file"),
    f"{APP}/run.sh": ("exec main\n", "exec"),
    f"{APP}/sub/é x.txt": ("x", "file"),
    f"{APP}/sub/link": ("../run.sh", "link"),
    f"{APP}/debug.log": ("left out", "file"),
    f"{APP}/keep.log": ("kept", "file"),
    "stages/runtime/conf.ini": ("a=1\n", "file"),
    "#tools/t.sh": ("true\n", "exec"),
    "#tools/data": ("d", "file"),
    "libs/local/pyproject.toml": ("[project]\nname = 'local'\nversion = '1'\n", "file"),
    "libs/local/src.c": ("int x;\n", "file"),
    "weights/w.bin": ("weights of ours", "file"),
    "unrelated.txt": ("u", "file"),
}
