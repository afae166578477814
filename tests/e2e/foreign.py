"""Four repositories of others, and a machine on which they are adopted.

``python -m tests.e2e.foreign`` adopts them all with empty caches, and writes how long each step took, and what a person
wrote, into docs/adopt.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.locks.poetry_lock import content_hash
from tests.e2e.conftest import short_folder
from tests.e2e.tinyproject import Tiny
from tests.packageindex import PackageIndexes, serve_indexes
from tests.ports import take_port
from tests.waiting import wait_until

_PAGE = Path(__file__).parents[2] / "docs/adopt.md"
_TABLE = re.compile(r"(?<=<!-- made: adoption -->\n)(?:\|.*\n)*")
_BUILD_SYSTEMS = ("pip", "setuptools", "wheel", "packaging", "poetry-core")
_SERVER = """import http.server, {modules}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = ({answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
_PACKAGE = """[project]
name = "{name}"
version = "1.0"
requires-python = ">=3.11"
dependencies = {needs}
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
packages = ["{name}"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRepository:
    """A repository: its files, given the index, and the stages that it becomes with their answers to a request.

    ``containerfiles`` are the texts that are replaced.
    """

    name: str
    title: str
    files: Callable[[PackageIndexes], dict[str, str]]
    answers: Mapping[str, str]
    containerfiles: tuple[str, ...]
    has_uv_lock: bool = False


@dataclass(frozen=True, slots=True)
class ForeignHost:
    """A machine on which repositories are adopted; its ``index`` has what they install."""

    tiny: Tiny
    index: PackageIndexes

    def enter(self, repository: ForeignRepository) -> None:
        """Make a repository the project."""
        self.tiny.project = self.tiny.folder / repository.name
        for path, text in repository.files(self.index).items():
            self.tiny.write(path, text)
        self.tiny.git("init", "--quiet")
        if repository.has_uv_lock:
            uv = (sys.executable, "-m", "uv", "lock", "--quiet", "--default-index", self.index.url())
            subprocess.run(uv, cwd=self.tiny.project, env=self.tiny.env, check=True)
        self.tiny.git("add", ".")

    def init(self) -> str:
        """Run `init`; return what it printed."""
        ended = self.tiny.run("init")
        assert ended.code == 0, ended.text
        return ended.text

    def lock(self) -> None:
        """Make the locks, and track them."""
        self._take_apt_lock()
        self.tiny.git("add", "--all")
        self.tiny.lock()
        self.tiny.git("add", "--all")

    def _take_apt_lock(self) -> None:
        """Begin with the root of the repository that was locked before, if it has the same packages."""
        path = "requirements/base.apt"
        for folder in self.tiny.folder.glob("*/requirements"):
            lock = folder / "base.apt.lock"
            same = lock.exists() and (folder / "base.apt").read_text() == (self.tiny.project / path).read_text()
            if same and folder.parent != self.tiny.project:
                self.tiny.write(f"{path}.lock", lock.read_text())

    def ask(self, stage: str) -> str:
        """Run the image of a stage; return its answer to one request."""
        port = take_port()
        ended = self.tiny.run(f"run-{stage}", "--no-build", "--detach", "--port", str(port))
        assert ended.code == 0, ended.text
        try:
            return _fetch(f"http://127.0.0.1:{port}/")
        finally:
            self.tiny.tool("podman", "rm", "--all", "--force", "--time=0")


def _fetch(url: str) -> str:
    """Return what a service answers, which may have just started."""

    def ask() -> list[str]:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return [answer.read().decode()]
        except OSError:
            return []

    return wait_until(ask, lambda: "the service does not answer")[0]


@contextmanager
def make_host() -> Iterator[ForeignHost]:
    """Make an empty machine, with an index that has a few packages, and torch in one of its own."""
    folder = short_folder()
    tiny = Tiny(folder)
    downloads = folder / "downloads"
    argv = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(downloads), *_BUILD_SYSTEMS)
    subprocess.run((*argv, "--only-binary=:all:", "--python-version=3.13"), check=True)
    try:
        with serve_indexes((("greeting", "1.0", "words>=2"), ("words", "2.1"), ("torch", "2.9.1"))) as index:
            for machine in ("x86_64", "aarch64"):
                index.add("torch", "2.9.1+cpu", index="cpu", tag=f"cp313-cp313-manylinux_2_28_{machine}")
            for file in downloads.iterdir():
                project = file.name.partition("-")[0].replace("_", "-")
                index.files[f"simple/{project}"] = {file.name: file.read_bytes()}
            tiny.env |= {"PIP_INDEX_URL": index.url(), "UV_PYTHON_DOWNLOADS": "never"}
            yield ForeignHost(tiny, index)
    finally:
        tiny.remove()


_UV_CONTAINERFILE = """FROM python:3.13-slim AS build
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
WORKDIR /app
COPY uv.lock pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-install-workspace
COPY . .
RUN uv sync --frozen --no-dev

FROM python:3.13-slim
RUN useradd --system --uid 999 service
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH
WORKDIR /app
USER service
EXPOSE 8000
CMD ["python", "-m", "shop.server"]
"""
_UV_TABLES = """[tool.uv.workspace]
members = ["libs/*"]
[tool.uv.sources]
toolkit = { workspace = true }
"""


def _uv_files(_: PackageIndexes) -> dict[str, str]:
    return {
        "pyproject.toml": _PACKAGE.format(name="shop", needs='["greeting", "toolkit"]') + _UV_TABLES,
        "shop/__init__.py": "",
        "shop/server.py": _SERVER.format(modules="greeting, toolkit, words", answer="toolkit.say(words.version)"),
        "libs/toolkit/pyproject.toml": _PACKAGE.format(name="toolkit", needs="[]"),
        "libs/toolkit/toolkit/__init__.py": "def say(text):\n    return f'toolkit {text}'\n",
        "Dockerfile": _UV_CONTAINERFILE,
    }


_POETRY_CONTAINERFILE = """FROM python:3.13-slim
ENV POETRY_VIRTUALENVS_CREATE=false
RUN pip install poetry==2.1.1
WORKDIR /srv
COPY pyproject.toml poetry.lock ./
RUN poetry install --only main --no-interaction && useradd --system --uid 999 service
USER service
EXPOSE 8000
CMD ["python", "-m", "clerk"]
"""
_POETRY = """[tool.poetry]
name = "clerk"
version = "0.3"
description = ""
authors = []
[tool.poetry.dependencies]
python = "^3.11"
greeting = "^1.0"
[build-system]
requires = ["poetry-core>=1"]
build-backend = "poetry.core.masonry.api"
"""


def _lock_by_poetry(index: PackageIndexes) -> str:
    """Return what Poetry 2 writes."""
    tables = []
    for name, version, needs in (("greeting", "1.0", 'words = ">=2"'), ("words", "2.1", "")):
        ((file, data),) = index.files[f"simple/{name}"].items()
        tables.append(
            f'[[package]]\nname = "{name}"\nversion = "{version}"\ndescription = ""\noptional = false\n'
            f'python-versions = "*"\ngroups = ["main"]\nfiles = [{{file = "{file}", hash = "{FileHash.of(data)}"}}]\n'
            f"[package.dependencies]\n{needs}\n"
        )
    made = content_hash(tomllib.loads(_POETRY))
    return "\n".join((*tables, f'[metadata]\nlock-version = "2.1"\ncontent-hash = "{made}"\n'))


def _poetry_files(index: PackageIndexes) -> dict[str, str]:
    return {
        "pyproject.toml": _POETRY,
        "poetry.lock": _lock_by_poetry(index),
        "clerk/__init__.py": "",
        "clerk/__main__.py": _SERVER.format(modules="words", answer="f'clerk {words.version}'"),
        "Dockerfile": _POETRY_CONTAINERFILE,
    }


_INDEX_CONTAINERFILE = """FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY serve.py .
RUN groupadd --system service && useradd --system --uid 999 --gid service service
USER service
EXPOSE 8000
ENTRYPOINT ["python"]
CMD ["serve.py"]
"""


def _index_files(index: PackageIndexes) -> dict[str, str]:
    return {
        "requirements.txt": f"--extra-index-url {index.url('cpu')}\ntorch==2.9.1+cpu\ngreeting\n",
        "serve.py": _SERVER.format(modules="torch, words", answer="f'{torch.version} {words.version}'"),
        "Dockerfile": _INDEX_CONTAINERFILE,
    }


_SERVICE_CONTAINERFILE = """FROM python:3.13-slim
WORKDIR /app
COPY libs/common /libs/common
COPY services/{name}/requirements.txt .
RUN pip install /libs/common -r requirements.txt
COPY services/{name}/{name} {name}
RUN adduser --system --uid 999 service
USER service
EXPOSE 8000
CMD ["python", "-m", "{name}"]
"""
_SERVICE = """  {name}:
    build: {{context: ., dockerfile: services/{name}/Dockerfile}}
    environment: [ROLE={name}]
"""


def _service_files(_: PackageIndexes) -> dict[str, str]:
    files = {
        "libs/common/pyproject.toml": _PACKAGE.format(name="common", needs="[]"),
        "libs/common/common/__init__.py": "def sign(text):\n    return f'common {text}'\n",
        "compose.yaml": f"services:\n{_SERVICE.format(name='front')}{_SERVICE.format(name='back')}",
    }
    for name in ("front", "back"):
        files[f"services/{name}/Dockerfile"] = _SERVICE_CONTAINERFILE.format(name=name)
        files[f"services/{name}/requirements.txt"] = "words\n"
        server = _SERVER.format(modules="common, os, words", answer="common.sign(os.environ['ROLE'] + words.version)")
        files[f"services/{name}/{name}/__main__.py"] = server
    return files


REPOSITORIES = (
    ForeignRepository(
        name="workspace", title="a workspace of uv, with its lock", files=_uv_files, answers={"app": "toolkit 2.1"},
        containerfiles=(_UV_CONTAINERFILE,), has_uv_lock=True,
    ),
    ForeignRepository(
        name="poetry", title="a project of Poetry, with its lock", files=_poetry_files, answers={"app": "clerk 2.1"},
        containerfiles=(_POETRY_CONTAINERFILE,),
    ),
    ForeignRepository(
        name="indexes", title="requirements.txt with an index for torch", files=_index_files,
        answers={"app": "2.9.1+cpu 2.1"}, containerfiles=(_INDEX_CONTAINERFILE,),
    ),
    ForeignRepository(
        name="services", title="two services with a library and a compose file", files=_service_files,
        answers={"front": "common front2.1", "back": "common back2.1"},
        containerfiles=tuple(_SERVICE_CONTAINERFILE.format(name=name) for name in ("front", "back")),
    ),
)  # fmt: skip


@dataclass(slots=True)
class StepTimes:
    """Seconds of the steps of an adoption, by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


def adopt_repository(host: ForeignHost, repository: ForeignRepository) -> tuple[StepTimes, str]:
    """Adopt a repository until its services have answered; return the times, and what `init` printed."""
    times = StepTimes()
    host.enter(repository)
    with times.measure("init"):
        said = host.init()
    with times.measure("lock"):
        host.lock()
    for stage, answer in repository.answers.items():
        with times.measure("build"):
            host.tiny.build(stage)
        with times.measure("run"):
            assert host.ask(stage) == answer
    return times, said


def count_lines(repository: ForeignRepository) -> int:
    """Return the lines of the Containerfiles of a repository, without empty ones and comments."""
    lines = [line.strip() for text in repository.containerfiles for line in text.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def count_left_over(said: str) -> int:
    """Return how many things `init` left to a person."""
    told = said.partition("left to you:\n")[2].partition("\n\nnext:")[0]
    return sum(line.startswith("  ") and not line.startswith("   ") for line in told.splitlines())


def find_rows(text: str) -> list[list[str]]:
    """Return the cells of the table in docs/adopt.md, without its head."""
    found = _TABLE.search(text)
    rows = found[0].splitlines()[2:] if found else []
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _main() -> None:
    lines = ["| repository | Containerfiles, lines | you write, lines | `init` | `lock` | `build` | until it answers |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for repository in REPOSITORIES:
        with make_host() as host:  # an empty one for each
            times, said = adopt_repository(host, repository)
        steps = " | ".join(f"{times.seconds[name]:.1f} s" for name in ("init", "lock", "build", "run"))
        lines.append(f"| {repository.title} | {count_lines(repository)} | {count_left_over(said)} | {steps} |")
        sys.stdout.write(lines[-1] + "\n")
    table = "".join(f"{line}\n" for line in lines)
    _PAGE.write_text(_TABLE.sub(lambda _: table, _PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _main()
