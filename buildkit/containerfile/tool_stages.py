"""Build stages with tools (mmdebstrap, pip, venv, curl) whose own files never reach the image."""

from __future__ import annotations

import posixpath
import re
import shlex
from itertools import count

from buildkit.containerfile.builder import BuildStage, ContainerfileBuilder
from buildkit.containerfile.quoting import render_copy
from buildkit.declare.project import Project
from buildkit.layers.python_archive import EXCLUDE
from buildkit.plan.spec import PackPython

PIP = "/pip/bin/pip"
_SUITES = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}  # Debian's releases by their Python
_UNPINNED = "at no fixed versions: no file of these packages is in the image"

_NO_FILE = "no file of it is in the image"
_COMMENT = "tools: what they make and fetch goes on, they themselves stay here"


class ToolStages:
    """Adds tool stages, each once."""

    def __init__(self, containerfile: ContainerfileBuilder, project: Project) -> None:
        self._containerfile = containerfile
        self._target = project.target
        self._suites: dict[str, tuple[BuildStage, list[str]]] = {}
        self._venv = ""
        self._own_python = ""

    def debian(self, suite: str, *packages: str) -> str:
        """Add a stage of this Debian suite with ``packages``; return its name."""
        if suite not in self._suites:
            name = self._argument_name(suite)
            image = self._containerfile.add_argument(
                name, f"docker.io/library/debian:{suite}-slim", f"where tools come from; {_NO_FILE}"
            )
            build = self._containerfile.add_stage("tools", image, _COMMENT)
            self._suites[suite] = build, []
        build, installed = self._suites[suite]
        installed += [package for package in packages if package not in installed]
        build.lines[:] = _install(installed)
        return build.name

    def _argument_name(self, suite: str) -> str:
        """Return a name that no other suite has: of letters, digits and underscores, as a Containerfile demands."""
        readable = re.sub(r"[^A-Z0-9]", "_", suite.upper())
        wanted = f"DEBIAN_{readable}" if self._suites else "DEBIAN"
        numbered = (wanted if turn == 1 else f"{wanted}_{turn}" for turn in count(1))
        return next(name for name in numbered if name not in self._containerfile.arguments)

    def fetcher(self) -> str:
        """Add a stage with curl; return its name."""
        return self._python("ca-certificates", "curl")

    def copy_python(self, work: PackPython) -> str:
        """Return the instruction that copies the images' own Python, which a stage fetches, verifies and compiles."""
        if not self._own_python:
            build = self._containerfile.add_stage(
                "standalone-python", self.fetcher(), f"Python {work.archive.release} of python-build-standalone"
            )
            build.lines.append(_unpack_python(work))
            self._own_python = build.name
        flags = (f"--from={self._own_python}", *self._containerfile.options.link_flags)
        return render_copy((work.folder,), work.folder, *flags)

    def venv(self) -> str:
        """Add a stage with pip in ``/pip`` and an empty virtual environment at the prefix; return its name."""
        if not self._venv:
            target = self._target
            base = self._python("python3-venv") if self._is_debians else self._python()
            build = self._containerfile.add_stage(
                "venv", base, "pip, and the virtual environment that wheels are installed for"
            )
            build.lines.append(
                "ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_WARN_SCRIPT_LOCATION=1"
            )
            if not self._is_debians:
                build.lines.append(_link(target.interpreter, target.minor))
            system = " --system-site-packages" if target.sees_system else ""
            build.lines.append(_make_venv(shlex.quote(target.interpreter), shlex.quote(target.prefix), system))
            self._venv = build.name
        return self._venv

    @property
    def _is_debians(self) -> bool:
        target = self._target
        return target.minor in _SUITES and target.interpreter == f"/usr/bin/python{target.minor}"

    def _python(self, *packages: str) -> str:
        if self._is_debians:
            return self.debian(_SUITES[self._target.minor], *packages)
        image = f"docker.io/library/python:{self._target.minor}-slim"
        image_argument = self._containerfile.add_argument("PYTHON", image, f"who installs wheels; {_NO_FILE}")
        if not packages:
            return image_argument
        if "python" not in self._suites:
            self._suites["python"] = self._containerfile.add_stage("python-tools", image_argument, _COMMENT), []
        build, installed = self._suites["python"]
        installed += [package for package in packages if package not in installed]
        build.lines[:] = _install(installed)
        return build.name


def _install(packages: list[str]) -> list[str]:
    install = (
        "RUN export DEBIAN_FRONTEND=noninteractive \\\n && apt-get update -qq \\\n"
        f" && apt-get install -qq --yes --no-install-recommends {' '.join(sorted(packages))} \\\n"
        " && rm -rf /var/lib/apt/lists/*"
    )
    return [f"# {_UNPINNED}\n# hadolint ignore=DL3008", install]


def _link(interpreter: str, minor: str) -> str:
    """Link the path of the image's interpreter to this stage's, which may differ."""
    folder = shlex.quote(posixpath.dirname(interpreter))
    path = shlex.quote(interpreter)
    return f'RUN [ -e {path} ] || {{ mkdir -p {folder} && ln -s "$(command -v python{minor})" {path}; }}'


def _unpack_python(work: PackPython) -> str:
    """Unpack the archive, whose folder is named ``python``, and compile its modules."""
    archive, minor = work.archive, ".".join(work.archive.version.split(".")[:2])
    unneeded = " ".join(pattern.replace("/**", "/*") for pattern in EXCLUDE if not pattern.startswith("**"))
    folder, url = shlex.quote(work.folder), shlex.quote(archive.url)
    return (
        f"RUN curl --fail --location --silent --show-error --retry 3 --output /tmp/python.tar.gz {url} \\\n"
        f" && echo '{archive.sha256.hex}  /tmp/python.tar.gz' | sha256sum --check --strict --quiet \\\n"
        f" && mkdir -p {folder} && tar -xzf /tmp/python.tar.gz -C {folder} --strip-components=1 --no-same-owner \\\n"
        f" && cd {folder} && rm -rf {unneeded} \\\n"
        f" && bin/python{minor} -m compileall -q --invalidation-mode unchecked-hash lib/python{minor}"
    )


def _make_venv(python: str, prefix: str, options: str) -> str:
    """Make the environments, without the activation scripts: containers run the interpreter directly."""
    return (
        f"RUN {python} -m venv /pip \\\n"
        f" && {python} -m venv --without-pip{options} {prefix} \\\n"
        f" && rm -f {prefix}/bin/[Aa]ctivate* {prefix}/.gitignore"
    )
