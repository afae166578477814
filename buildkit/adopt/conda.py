"""Read conda's environment.yml: what pip installs in it, and what to write for the packages of conda. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit.adopt.draft import Leftover
from buildkit.adopt.installs import name_address
from buildkit.adopt.yamlfile import YamlFile, as_list, parse_yaml
from buildkit.errors import DefinitionError

ENVIRONMENT_FILES = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")
_SPEC = re.compile(r"(?:[^\s:]+::)?(?P<name>[A-Za-z0-9._-]+)\s*(?P<rest>[^#\[]*)")
_MINOR = re.compile(r"=*\s*>?=?\s*(3\.\d+)")
_TOOLS = ("pip", "setuptools", "wheel", "conda", "mamba")
_CUDA = re.compile(r"(?:cuda(?:toolkit)?|cudnn|nccl|pytorch-cuda|libcublas)(?:-.*)?")
_Placed = tuple[tuple[str, ...], str]
_WHEELS = {  # packages that have another name among wheels
    "pytorch": "torch", "pytorch-gpu": "torch", "pytorch-cpu": "torch", "tensorflow-gpu": "tensorflow",
    "opencv": "opencv-python-headless", "py-opencv": "opencv-python-headless",
    "msgpack-python": "msgpack", "matplotlib-base": "matplotlib", "dask-core": "dask", "py-xgboost": "xgboost",
}  # fmt: skip
_DEBIAN = {  # packages of conda that are no Python
    "ffmpeg": "ffmpeg", "libsndfile": "libsndfile1", "sox": "sox", "git": "git", "git-lfs": "git-lfs", "curl": "curl",
    "wget": "wget", "libstdcxx-ng": "libstdc++6", "libgcc-ng": "libgcc-s1", "libgomp": "libgomp1",
    "graphviz": "graphviz",
    "openblas": "libopenblas0", "libpq": "libpq5", "tesseract": "tesseract-ocr", "poppler": "poppler-utils",
    "portaudio": "libportaudio2", "espeak-ng": "espeak-ng", "libgl": "libgl1", "geos": "libgeos-c1t64",
    "openjdk": "default-jre-headless", "bash": "bash", "tini": "tini", "zlib": "zlib1g", "openssl": "openssl",
}  # fmt: skip
_COMPILERS = re.compile(
    r"(?:gcc|gxx|g\+\+|clang|c-compiler|cxx-compiler|compilers|fortran-compiler|cmake|make|ninja|pkg-config)"
    r"(?:_linux-64|_linux-aarch64)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaEnvironment:
    """An environment: the minor version of its Python (empty: none), lines for pip, variables, and what is left."""

    python: str
    lines: tuple[str, ...]
    files: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    leftovers: tuple[Leftover, ...]


def parse_environment(text: str, file: str, stage: str = "app") -> CondaEnvironment:
    """Parse the file; ``stage`` is whose input the advice names. Raises DefinitionError."""
    read = parse_yaml(text, file)
    if not isinstance(read.value, dict):
        raise DefinitionError(f"{file}: it is not an environment of conda")
    packages, pip = _split(read)
    lines, files, left = [], [], []
    for place, line in pip:
        kind, _, rest = line.partition(" ")
        if kind in ("-r", "--requirement"):
            files.append(rest.strip())
        elif "://" in line and not line.startswith("-") and " @ " not in line:
            named = name_address(line)
            lines += [named] if named else []
            advice = f"written into the input as `{named}`: check the name" if named else "write it as `NAME @ ADDRESS`"
            left.append(Leftover(file=file, line=read.line(*place), text=line, advice=advice))
        else:
            lines.append(line)
    advised = [(read.line(*place), text, advise_conda(text, stage)) for place, text in packages]
    left += [Leftover(file=file, line=line, text=text, advice=advice) for line, text, advice in advised if advice]
    variables = read.value.get("variables")
    return CondaEnvironment(
        python=next((minor for _, text in packages if (minor := find_python(text))), ""),
        lines=tuple(lines),
        files=tuple(files),
        variables=tuple((str(key), str(value)) for key, value in variables.items())
        if isinstance(variables, dict)
        else (),
        leftovers=tuple(left),
    )


def find_python(spec: str) -> str:
    """Return the minor version of ``python=3.11``; empty for other packages, and without a version."""
    found = _SPEC.match(spec)
    version = _MINOR.match(found["rest"].strip()) if found and found["name"] == "python" else None
    return version[1] if version else ""


def advise_conda(spec: str, stage: str) -> str:
    """Return what to write for a package of conda; empty if there is nothing to do."""
    found = _SPEC.match(spec)
    name = found["name"].lower() if found else spec
    if found is None or name in _TOOLS or name == "python":
        return ""
    if _CUDA.fullmatch(name):
        return "nothing to write: wheels of PyTorch and others bring what they need of CUDA"
    if _COMPILERS.fullmatch(name):
        return "a compiler: `build-essential` or `cmake` in requirements/builder.apt"
    if debian := _DEBIAN.get(name):
        return f"no Python package: write `{debian}` into requirements/base.apt"
    wheel = _WHEELS.get(name, name)
    return f"a package of conda: write `{wheel}{_render_version(found['rest'].strip())}` into requirements/{stage}.in"


def _render_version(text: str) -> str:
    version = text.split()[0] if text.split() else ""
    if re.fullmatch(r"=?\d+(?:\.\d+)?", version):  # 1.26 is 1.26.*, as conda reads it
        return f"=={version.lstrip('=')}.*"
    if re.fullmatch(r"==?[\d.]+\*?(?:=.*)?", version):  # a build follows
        return f"=={version.lstrip('=').partition('=')[0]}"
    return version if re.fullmatch(r"(?:[<>=!~]=?[\w.*]+,?)+", version) else ""


def _split(read: YamlFile) -> tuple[list[_Placed], list[_Placed]]:
    """Return the packages of conda and the lines of pip, each with its place in the file."""
    packages: list[_Placed] = []
    pip: list[_Placed] = []
    for number, item in enumerate(as_list(read.value.get("dependencies"))):
        place = ("dependencies", str(number))
        if isinstance(item, str):
            packages.append((place, item.strip()))
        elif isinstance(item, dict):
            pip += [((*place, "pip", str(at)), str(line).strip()) for at, line in enumerate(as_list(item.get("pip")))]
    return packages, pip
