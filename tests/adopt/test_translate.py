"""What a Containerfile says becomes lists, locks, copies and config; the rest is left over with its line."""

from __future__ import annotations

import pytest

from buildkit.adopt.draft import CopyDraft, ImageDraft, Leftover, RootDraft, WheelsDraft
from buildkit.adopt.instructions import read_containerfile
from buildkit.adopt.translate import RepositoryFacts, translate

FILES = ("src", "src/", "models", "models/", "run.sh", "web", "web/", ".", "./", "services/dev.txt")


def draft(text: str, *, target: int = -1) -> tuple[ImageDraft, tuple[Leftover, ...]]:
    file = read_containerfile(text, "Dockerfile")
    return translate(file, file.stages[target], "app", RepositoryFacts(exists=lambda path: path in FILES))


def body(text: str) -> ImageDraft:
    """Return the draft of instructions on a Debian root; nothing of them may be left over."""
    image, leftovers = draft(f"FROM python:3.13-slim\n{text}")
    assert leftovers == ()
    return image


def left(text: str) -> list[tuple[int, str]]:
    return [(found.line, found.text) for found in draft(f"FROM python:3.13-slim\n{text}")[1]]


TRIXIE = RootDraft(suite="trixie", python="3.13", glibc="2.41", interpreter="/usr/bin/python3.13")
BOOKWORM = RootDraft(suite="bookworm", python="3.11", glibc="2.36", interpreter="/usr/bin/python3.11")


@pytest.mark.parametrize(
    ("image", "root"),
    [
        ("python:3.13-slim", TRIXIE),
        ("docker.io/library/python:3.13.5-slim-trixie", TRIXIE),
        ("python:3.11", BOOKWORM),
        ("ghcr.io/astral-sh/uv:python3.13-bookworm-slim", TRIXIE),
        ("debian:bookworm-slim", BOOKWORM),
        ("debian:13", TRIXIE),
    ],
)
def test_debian_stands_in_where_it_has_that_python(image: str, root: RootDraft) -> None:
    found, leftovers = draft(f"FROM {image}")
    assert (found.root, leftovers) == (root, ())


@pytest.mark.parametrize("image", ["python:3.12-slim", "nvidia/cuda:12.6.0-runtime-ubuntu24.04", "python:3.13-alpine"])
def test_other_images_are_roots_whose_digest_is_asked_for(image: str) -> None:
    found, (leftover,) = draft(f"FROM {image}")
    assert found.root is not None
    assert found.root.image == image
    assert f"skopeo inspect docker://{image}" in leftover.advice


def test_python_of_a_registry_image_is_that_of_its_tag() -> None:
    found, _ = draft("ARG VERSION=3.12\nFROM python:${VERSION}-slim-bookworm")
    assert found.root == RootDraft(
        image="python:3.12-slim-bookworm", python="3.12", glibc="2.36", interpreter="/usr/local/bin/python3.12"
    )


def test_debian_packages_go_into_the_root_and_compilers_into_the_builder() -> None:
    image = body(
        "RUN apt-get update && apt-get -y install --no-install-recommends libgomp1 gcc libpq-dev \\\n"
        "    curl=8.* && rm -rf /var/lib/apt/lists/*"
    )
    assert list(image.apt) == ["libgomp1", "curl=8.*"]
    assert list(image.builder_apt) == ["gcc", "libpq-dev"]


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("pip install --no-cache-dir -r requirements.txt", ("-r requirements.txt",)),
        ("pip install -U pip setuptools && python3 -m pip install 'fastapi>=0.110' uvicorn[standard]",
         ("fastapi>=0.110", "uvicorn[standard]")),
        ("uv pip install --system -r requirements.txt -c constraints.txt",
         ("-r requirements.txt", "-c constraints.txt")),
        ("/opt/venv/bin/pip install torch==2.9.1+cpu --index-url https://x/cpu",
         ("--index-url https://x/cpu", "torch==2.9.1+cpu")),
        ("pip install -rrequirements.txt --pre", ("-r requirements.txt", "--pre")),
        ("python -m venv /opt/venv && pip install -e .", (".",)),
        ("pip install .[gpu] ./src", (".[gpu]", "./src")),
    ],
)  # fmt: skip
def test_pip_becomes_lines_of_an_input(command: str, lines: tuple[str, ...]) -> None:
    assert body(f"WORKDIR /app\nCOPY . .\nRUN {command}").wheels == WheelsDraft(lines=lines)


@pytest.mark.parametrize(
    ("command", "wheels"),
    [
        ("uv sync --frozen --no-dev", WheelsDraft(locks=("uv.lock",), package=True)),
        ("uv sync --locked --no-install-project --extra gpu --group serve",
         WheelsDraft(locks=("uv.lock",), extras=("gpu",), groups=("serve",))),
        ("pip install poetry && poetry config virtualenvs.create false && poetry install --only main --no-root",
         WheelsDraft(locks=("poetry.lock",))),
        ("poetry install --with serve -E 'a b'",
         WheelsDraft(locks=("poetry.lock",), extras=("a", "b"), groups=("serve",), package=True)),
    ],
)  # fmt: skip
def test_locks_of_other_tools_are_used_as_they_are(command: str, wheels: WheelsDraft) -> None:
    assert body(f"RUN {command}").wheels == wheels


@pytest.mark.parametrize(
    ("text", "copies"),
    [
        ("COPY src /app/src", [("src", "/app/src")]),
        ("WORKDIR /app\nCOPY src/ ./src/\nCOPY run.sh .", [("src", "/app/src"), ("run.sh", "/app/run.sh")]),
        ("WORKDIR /srv\nCOPY . .", [(".", "/srv")]),
        ("COPY run.sh /usr/local/bin/start", [("run.sh", "/usr/local/bin/start")]),
        ("COPY src models /data/", [("src", "/data"), ("models", "/data")]),
        ('COPY ["src", "/a b"]', [("src", "/a b")]),
        ("COPY pyproject.toml uv.lock requirements.txt /app/\nADD --chown=1:1 models /m", [("models", "/m")]),
    ],
)
def test_copies_keep_their_place(text: str, copies: list[tuple[str, str]]) -> None:
    assert list(body(text).copies) == [CopyDraft(source=source, target=target) for source, target in copies]


def test_config() -> None:
    image = body(
        'ENV A=1 B="two words" PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1\nENV C three\nARG W=/srv\nWORKDIR $W\n'
        "WORKDIR x\nRUN groupadd svc && useradd -m -u 1200 -g svc svc && mkdir -p /srv/x\nUSER svc:svc\n"
        "EXPOSE 8000 9/udp\n"
        'VOLUME ["/data"]\nLABEL a.b="c d" e=f\nSTOPSIGNAL SIGINT\nENTRYPOINT ["tini", "--"]\nCMD python -m app\n'
        'HEALTHCHECK --interval=1m30s --retries=2 CMD ["true"]'
    )
    assert image.env == {"A": "1", "B": "two words", "C": "three"}
    assert (image.workdir, image.user, image.users) == ("/srv/x", "svc", {"svc": 1200})
    assert (list(image.ports), list(image.volumes)) == (["8000", "9/udp"], ["/data"])
    assert image.labels == {"a.b": "c d", "e": "f"}
    assert (image.entrypoint, image.cmd) == (("tini", "--"), ("/bin/sh", "-c", "python -m app"))
    assert (image.stop_signal, image.healthcheck) == ("SIGINT", ("true",))
    assert image.health_times == {"interval": 90, "retries": 2}


MULTI_STAGE = """FROM python:3.13 AS build
RUN apt-get install -y gcc libopenblas0
COPY requirements.txt .
RUN python -m venv /opt/venv && /opt/venv/bin/pip install -r requirements.txt
FROM python:3.13-slim AS base
ENV A=1
RUN apt-get install -y libgomp1
FROM base AS dev
CMD ["dev"]
FROM base
COPY --from=build /opt/venv /opt/venv
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
CMD ["serve"]
"""


def test_packages_of_a_build_stage_are_the_images_and_its_tools_the_builders() -> None:
    image, leftovers = draft(MULTI_STAGE)
    assert leftovers == ()
    assert (image.root, image.env, image.cmd) == (TRIXIE, {"A": "1"}, ("serve",))
    assert (list(image.apt), list(image.builder_apt)) == (["libgomp1"], ["gcc", "libopenblas0"])
    assert image.wheels == WheelsDraft(lines=("-r requirements.txt",))


def test_another_target_is_another_image() -> None:
    image, _ = draft(MULTI_STAGE, target=2)
    assert (image.cmd, image.wheels) == (("dev",), WheelsDraft())


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("RUN curl -fsSL https://x/y.sh | sh", "RUN curl -fsSL https://x/y.sh sh"),
        ("RUN apt-get update && make install", "RUN make install"),
        ("RUN for i in a b; do echo $i; done", "RUN for i in a b; do echo $i; done"),
        ("RUN pip install git+https://x/y", "RUN pip install git+https://x/y"),
        ("COPY missing /x", "COPY missing /x"),
        ("COPY *.py /x/", "COPY *.py /x/"),
        ("ADD https://x/y /y", "ADD https://x/y /y"),
        ("COPY <<EOF /x\na\nEOF", "COPY <<EOF /x"),
        ("COPY --from=nginx /etc/nginx /etc/nginx", "COPY /etc/nginx /etc/nginx"),
        ("ARG TOKEN", "ARG TOKEN"),
        ("USER $WHO", "USER $WHO"),
        ("ONBUILD RUN x", "ONBUILD RUN x"),
        ('SHELL ["/bin/bash", "-c"]', 'SHELL ["/bin/bash", "-c"]'),
    ],
)
def test_what_is_not_understood_is_left_over(text: str, what: str) -> None:
    assert left(text) == [(2, what)]


def test_what_node_builds_is_left_over() -> None:
    image, leftovers = draft(
        "FROM node:22 AS web\nCOPY web .\nRUN npm ci\nFROM python:3.13\nCOPY --from=web /dist /app/static"
    )
    assert [found.line for found in leftovers] == [3, 5]
    assert ["fetches" in leftovers[0].advice, "Node.js" in leftovers[1].advice] == [True, True]
    assert image.wheels == WheelsDraft()
    assert list(image.copies) == []


def test_requirements_that_were_copied_elsewhere_are_found_where_they_come_from() -> None:
    image = body(
        "WORKDIR /srv\nCOPY services/api/requirements.txt services/dev.txt constraints.txt ./\n"
        "RUN pip install -r requirements.txt -c constraints.txt\n"
        "COPY services/worker/requirements.txt /tmp/worker.txt\nRUN pip install -r /tmp/worker.txt"
    )
    assert image.wheels.lines == (
        "-r services/api/requirements.txt",
        "-c constraints.txt",
        "-r services/worker/requirements.txt",
    )


@pytest.mark.parametrize("value", ["app --port $PORT", 'sh -c "app --port ${PORT:-80}"', '["app", "$PORT"]'])
def test_commands_are_left_to_the_shell_that_runs_them(value: str) -> None:
    image = body(f"ENV PORT=80\nCMD {value}\nHEALTHCHECK CMD curl localhost:$PORT")
    assert image.cmd == (("app", "$PORT") if value.startswith("[") else ("/bin/sh", "-c", value))
    assert image.healthcheck == ("/bin/sh", "-c", "curl localhost:$PORT")


@pytest.mark.parametrize("target", ["/tmp/", "/tmp/run.sh", "/bin/run.sh"])
def test_targets_that_no_layer_may_own_are_left_over(target: str) -> None:
    assert left(f"COPY run.sh {target}") == [(2, f"COPY run.sh {target}")]
