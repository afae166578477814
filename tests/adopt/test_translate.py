"""What a Containerfile says becomes lists, locks, copies and config; the rest is left over with its line."""

from __future__ import annotations

import pytest

from buildkit.adopt.draft import CopyDraft, ImageDraft, Leftover, RootDraft, WheelsDraft
from buildkit.adopt.reading import RepositoryFacts
from buildkit.adopt.render import needs_builder, render_files
from buildkit.adopt.translate import translate
from buildkit.declare.instructions import read_containerfile

FILES = ("src", "src/", "models", "models/", "run.sh", "web", "web/", ".", "./", "services/dev.txt")


def draft(text: str, *, target: int = -1) -> tuple[ImageDraft, tuple[Leftover, ...]]:
    file = read_containerfile(text, "Dockerfile")
    return translate(file, file.stages[target], RepositoryFacts(exists=lambda path: path in FILES))


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


@pytest.mark.parametrize(
    ("image", "name", "glibc", "python"),
    [
        ("python:3.12-slim", "docker.io/library/python:3.12-slim", "2.41", "/usr/local/bin/python3.12"),
        ("nvidia/cuda:12.6.0-runtime-ubuntu24.04", "docker.io/nvidia/cuda:12.6.0-runtime-ubuntu24.04", "2.39",
         "/usr/bin/python3.12"),
        ("ghcr.io/me/base:1", "ghcr.io/me/base:1", "2.41", "/usr/bin/python3.13"),
        ("ubuntu:22.04", "docker.io/library/ubuntu:22.04", "2.35", "/usr/bin/python3.10"),
    ],
)  # fmt: skip
def test_other_images_are_roots_by_their_whole_name(image: str, name: str, glibc: str, python: str) -> None:
    found, leftovers = draft(f"FROM {image}")
    assert found.root is not None
    assert (found.root.image, found.root.glibc, found.root.interpreter) == (name, glibc, python)
    assert bool(leftovers) is not python.startswith("/usr/local/"), "`nox -s lock` asks for the digest"


@pytest.mark.parametrize(
    ("image", "root"), [("python:3.13-alpine3.22", TRIXIE), ("python:3.11-alpine", BOOKWORM), ("alpine:3.20", TRIXIE)]
)
def test_debian_stands_in_for_alpine_whose_c_library_has_few_wheels(image: str, root: RootDraft) -> None:
    found, (left_over,) = draft(f"FROM {image}\nRUN apk --no-cache add curl")[0], draft(f"FROM {image}")[1]
    assert found.root == root
    assert "musl" in left_over.advice
    assert "manylinux" in left_over.advice


def test_alpine_with_a_python_that_debian_lacks_becomes_the_slim_image() -> None:
    found, (left_over,) = draft("FROM python:3.12-alpine")
    assert found.root is not None
    assert found.root.image == "docker.io/library/python:3.12-slim"
    assert "musl" in left_over.advice


@pytest.mark.parametrize("image", ["continuumio/miniconda3:24.7.1-0", "condaforge/miniforge3", "mambaorg/micromamba:2"])
def test_debian_stands_in_for_conda(image: str) -> None:
    found, (left_over,) = draft(f"FROM {image}")
    assert found.root == TRIXIE
    assert "conda" in left_over.advice


def test_packages_of_an_image_with_torch_are_named() -> None:
    _, (left_over,) = draft("FROM pytorch/pytorch:2.4.0-cuda12.4-cudnn9-runtime")
    assert "write `torch==2.4.0` into requirements/app.in" in left_over.advice


def test_python_of_the_packages_is_the_images() -> None:
    found, _ = draft("FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\nRUN apt-get install -y python3.11 python3-pip")
    assert found.root is not None
    assert (found.root.python, found.root.interpreter) == ("3.11", "/usr/bin/python3.11")


def test_python_of_a_registry_image_is_that_of_its_tag() -> None:
    found, _ = draft("ARG VERSION=3.12\nFROM python:${VERSION}-slim-bookworm")
    assert found.root == RootDraft(
        image="docker.io/library/python:3.12-slim-bookworm",
        python="3.12",
        glibc="2.36",
        interpreter="/usr/local/bin/python3.12",
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
        ("pip install -rrequirements.txt --pre", ("--pre", "-r requirements.txt")),
        ("python -m venv /opt/venv && pip install -e .", (".",)),
        ("pip install .[gpu] ./src", (".[gpu]", "./src")),
    ],
)  # fmt: skip
def test_pip_becomes_lines_of_an_input(command: str, lines: tuple[str, ...]) -> None:
    wheels = body(f"WORKDIR /app\nCOPY . .\nRUN {command}").wheels
    assert (*wheels.settings, *wheels.lines) == lines
    assert wheels.plain == (not wheels.settings or "--pre" in wheels.settings)


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
    assert image.wheels == WheelsDraft(lines=("-r requirements.txt",), plain=True)


def test_another_target_is_another_image() -> None:
    image, _ = draft(MULTI_STAGE, target=2)
    assert (image.cmd, image.wheels) == (("dev",), WheelsDraft())


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("RUN curl -fsSL https://x/y.sh | sh", "RUN curl -fsSL https://x/y.sh | sh"),
        ("RUN a 'b c' |& d && cat x | tr -d '\\r'", "RUN a 'b c' | d && cat x | tr -d '\\r'"),
        ("RUN apt-get update && " + "x" * 200, "RUN " + "x" * 155 + "…"),
        ("RUN apt-get update && make install", "RUN make install"),
        ("RUN for i in a b; do echo $i; done", "RUN for i in a b; do echo $i; done"),
        ("RUN pip install git+https://x/y", "RUN pip install git+https://x/y"),
        ("COPY missing /x", "COPY missing /x"),
        ("COPY *.py /x/", "COPY *.py /x/"),
        ("ADD https://x/y /y", "ADD https://x/y /y"),
        ("COPY <<EOF /x\n$A\nEOF", "COPY <<EOF /x"),
        ("COPY --from=nginx /etc/nginx /etc/nginx", "COPY --from=nginx /etc/nginx /etc/nginx"),
        ("COPY --exclude=*.md src /x", "COPY src /x"),
        ("COPY --chmod=755 run.sh /x", "COPY run.sh /x"),
        ("ADD src.tar.gz /x", "ADD src.tar.gz /x"),
        ("ARG TOKEN", "ARG TOKEN"),
        ("ENV A=1 HF_TOKEN=hunter2", "ENV HF_TOKEN"),
        ("ENV DB=postgres://me:hunter2@db/x", "ENV DB"),
        ("USER $WHO", "USER $WHO"),
        ("ONBUILD RUN x", "ONBUILD RUN x"),
    ],
)
def test_what_is_not_understood_is_left_over(text: str, what: str) -> None:
    assert left(text) == [(2, what)]


def test_what_node_builds_is_left_over() -> None:
    image, leftovers = draft(
        "FROM node:22 AS web\nCOPY web .\nRUN npm ci\nFROM python:3.13\nCOPY --from=web /dist /app/static"
    )
    assert [found.line for found in leftovers] == [5]
    assert leftovers[0].text == "COPY --from=web /dist /app/static"
    assert '[[copy]]\n  source = "/web/dist"\n  target = "/app/static"\n  untracked = true' in leftovers[0].advice
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


def test_sources_that_a_build_stage_holds_are_copied_from_the_repository() -> None:
    image = body(
        "WORKDIR /x\nFROM python:3.13 AS build\nWORKDIR /app\nCOPY . /app\nRUN uv sync --frozen\n"
        "FROM python:3.13-slim\nCOPY --from=build /app /srv\nCOPY --from=build /app/run.sh /run-it"
    )
    assert list(image.copies) == [CopyDraft(source=".", target="/srv"), CopyDraft(source="run.sh", target="/run-it")]
    assert image.wheels == WheelsDraft(locks=("uv.lock",), package=True)


@pytest.mark.parametrize(
    "text",
    [
        "RUN poetry export -f requirements.txt -o /r.txt --with serve --extras 'a b' && pip install -r /r.txt",
        """FROM python:3.13 AS lock
WORKDIR /tmp
RUN pip install poetry poetry-plugin-export && poetry export --with=serve -E a -E b --output r.txt
FROM python:3.13
WORKDIR /code
COPY --from=lock /tmp/r.txt ./
RUN pip install -r r.txt""",
    ],
)
def test_requirements_that_were_exported_are_the_lock(text: str) -> None:
    assert body(text).wheels == WheelsDraft(locks=("poetry.lock",), extras=("a", "b"), groups=("serve",))


def test_wheels_of_a_build_stage_are_the_list_that_they_come_from() -> None:
    image = body(
        "WORKDIR /x\nFROM python:3.13 AS wheels\nWORKDIR /wheels\nCOPY services/dev.txt requirements.txt ./\n"
        "RUN pip wheel --wheel-dir . -r dev.txt\nFROM python:3.13-slim\nCOPY --from=wheels /wheels /wheels\n"
        "RUN pip install --no-index --find-links=/wheels -r /wheels/dev.txt && rm -rf /wheels"
    )
    assert image.wheels == WheelsDraft(lines=("-r services/dev.txt",), plain=True)
    assert list(image.copies) == []


def test_project_beside_its_lock_is_that_of_the_lock() -> None:
    image = body(
        "WORKDIR /src\nCOPY uv.lock pyproject.toml ./\nRUN uv sync --no-install-project\nCOPY . .\n"
        "RUN <<END\ncd /src\nuv pip install --python=/app --no-deps .\nEND"
    )
    assert image.wheels == WheelsDraft(locks=("uv.lock",), package=True)


def test_packages_of_the_repository_are_installed_and_not_copied_as_well() -> None:
    image = body("COPY src /libs/src\nWORKDIR /app\nCOPY web .\nRUN pip install /libs/src -e .")
    assert image.wheels.lines == ("./web", "./src")
    assert list(image.copies) == [CopyDraft(source="web", target="/app")]


def test_index_of_one_installation_is_another_index_for_the_others() -> None:
    image = body(
        "WORKDIR /a\nCOPY . .\nRUN pip install torch --index-url https://x/cpu\nRUN pip install -r services/dev.txt"
    )
    (files,) = ([render_files([image])["requirements/app.in"]],)
    assert files == ["--extra-index-url https://x/cpu\ntorch\n-r ../services/dev.txt\n"]


def test_text_of_a_copy_becomes_a_file_beside_the_stage() -> None:
    image = body("ARG PORT=80\nCOPY <<EOF /etc/app/a.toml\nport = $PORT\nEOF")
    (copy,) = image.copies
    assert copy == CopyDraft(source="stages/app/files/etc/app/a.toml", target="/etc/app/a.toml")
    assert image.texts == {copy.source: "port = 80\n"}


def test_patterns_are_what_they_match() -> None:
    file = read_containerfile("FROM python:3.13\nCOPY *.py poetry.lock* /x/", "Dockerfile")
    found = {"*.py": ("a.py", "b.py")}
    facts = RepositoryFacts(exists=lambda path: path in ("a.py", "b.py"), find=lambda text: found.get(text, ()))
    image, leftovers = translate(file, file.stages[0], facts)
    assert [copy.target for copy in image.copies] == ["/x/a.py", "/x/b.py"]
    assert leftovers == ()


def test_arguments_that_the_config_uses_become_arguments_of_the_stage() -> None:
    image = body("ARG SHA=none\nARG URL\nARG PY=3\nENV SHA=$SHA\nLABEL url=${URL} py=3\nUSER u$PY")
    assert image.args == {"SHA": "none", "URL": ""}
    assert (image.env, image.labels, image.user) == ({"SHA": "${SHA}"}, {"url": "${URL}", "py": "3"}, "u3")


def test_shell_of_commands_is_the_one_that_is_set() -> None:
    image = body('SHELL ["/bin/bash", "-o", "pipefail", "-c"]\nCMD a | b')
    assert image.cmd == ("/bin/bash", "-o", "pipefail", "-c", "a | b")


@pytest.mark.parametrize(
    "command",
    [
        "curl -LsSf https://astral.sh/uv/install.sh | sh",
        "curl -sSL https://install.python-poetry.org | python3 -",
        "rm -rf /tmp/* /var/tmp/* /wheels",
        "ln -s /usr/bin/python3.13 /usr/bin/python",
        "update-alternatives --install /usr/bin/python python /usr/bin/python3.13 1",
        "python -V && pip --version && pip list",
        "conda clean -afy",
    ],
)
def test_commands_of_no_use_in_an_image_are_dropped(command: str) -> None:
    assert body(f"RUN {command}").apt == {}


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("chmod +x run.sh", "git update-index --chmod=+x run.sh"),
        ("sed -i s/a/b/ run.sh", "change them in the repository"),
        ("add-apt-repository ppa:x/y", "another source of packages"),
        ("python manage.py collectstatic", "steps see neither packages nor copies"),
        ("python -m spacy download en", "steps see no packages"),
        ("pipenv install --deploy", "-r ../requirements.txt"),
        ("mkdir -p /var/state", "tmpfs"),
        ("pip install /opt/other", "/opt/other is not in the repository"),
        ("pip install -r nowhere.txt", "nowhere.txt is not in the repository"),
        ("pip install --no-build-isolation flash-attn", "--no-build-isolation has no effect"),
    ],
)
def test_advice_fits_the_command(command: str, advice: str) -> None:
    (found,) = draft(f"FROM python:3.13\nWORKDIR /app\nCOPY run.sh .\nRUN {command}")[1]
    assert advice in found.advice


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("git+https://x/me/kit.git@v1", "kit @ git+https://x/me/kit.git@v1"),
        ("git+https://x/me/r@a1#egg=kit&subdirectory=py", "kit @ git+https://x/me/r@a1#subdirectory=py"),
        ("https://x/kit-1.0-py3-none-any.whl", "kit @ https://x/kit-1.0-py3-none-any.whl"),
    ],
)
def test_package_at_an_address_gets_its_name(address: str, line: str) -> None:
    image, (found,) = draft(f"FROM python:3.13-slim\nRUN pip install '{address}'")
    assert image.wheels.lines == (line,)
    assert needs_builder(image) == ("git+" in line)
    assert found.advice == f"written into the input as `{line}`: check the name"


def test_package_whose_name_cannot_be_seen_is_left_over() -> None:
    image, (found,) = draft("FROM python:3.13\nRUN pip install https://x/download")
    assert image.wheels.lines == ()
    assert "NAME @ git+https" in found.advice
    assert body("RUN pip install 'kit @ git+https://x/kit@v1'").wheels.lines == ("kit @ git+https://x/kit@v1",)
