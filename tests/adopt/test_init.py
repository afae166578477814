"""``nox -s init`` on repositories: what it writes loads, nothing is overwritten, and models keep their place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from buildkit.adopt.init import adopt
from buildkit.adopt.sources import InitOptions
from buildkit.cli.guard import guarded
from buildkit.cli.init import run
from buildkit.declare.containerfile_root import ContainerfileRoot, find_containerfile_inputs
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.declare.stage import Copy
from buildkit.errors import DefinitionError

DOCKERFILE = """FROM python:3.11-slim
RUN apt-get update && apt-get install -y libgomp1 gcc
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY src src
COPY models models
RUN useradd -m svc
USER svc
EXPOSE 8000
CMD ["uvicorn", "src.main:app"]
"""


def make(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "add", "-A"], check=True)
    return folder


@pytest.fixture
def service(tmp_path: Path) -> Path:
    return make(
        tmp_path / "my-service",
        Dockerfile=DOCKERFILE,
        requirements_DOT_txt="fastapi\n",
        src__main_DOT_py="app = 1\n",
        models__a_DOT_onnx=b"x" * 70_000,
        models__labels_DOT_txt="a\n",
        _DOT_dockerignore="**/*.md\n",
        _DOT_gitignore="src/local.py\n",
    )


def test_stages_of_a_service_load_as_they_were_written(service: Path) -> None:
    done = adopt(service, InitOptions())
    assert set(done.written) == {
        "noxfile.py", "pyproject.toml", ".containerignore", "requirements/app.in", "requirements/base.apt",
        "requirements/builder.apt", "requirements/build.in", "requirements/models.toml", "stages/app/stage.toml",
        "stages/base/stage.toml", "stages/builder/stage.toml", "stages/models/stage.toml",
    }  # fmt: skip
    assert done.leftovers == ()
    project, graph = load_project(service), load_graph(service)
    assert (project.name, project.target.python, project.target.glibc) == ("my-service", "3.11", "2.36")
    app = graph.stages["app"]
    assert (app.base, app.include, app.ships) == ("base", ("models",), True)
    assert app.config.cmd == ("uvicorn", "src.main:app")
    assert (app.config.user, app.config.workdir, app.config.ports) == ("svc", "/app", ("8000",))
    assert app.copy == (Copy(source="/src", target="/app/src"), Copy(source="/models", target="/app/models"))
    assert (service / "requirements/app.in").read_text() == "-r ../requirements.txt\n"
    assert (service / "requirements/base.apt").read_text().split() == ["ca-certificates", "python3.11", "libgomp1"]
    assert (service / "requirements/builder.apt").read_text().split() == ["gcc"]
    assert (service / "requirements/build.in").read_text().split() == ["pip>=25", "setuptools>=80", "wheel>=0.45"]


def test_builder_has_the_build_systems_of_the_packages(tmp_path: Path) -> None:
    table = '[build-system]\nrequires = ["{}"]\n'
    workspace = '[tool.uv.workspace]\nmembers = ["libs/*"]\n'
    make(
        tmp_path / "x",
        Dockerfile="FROM python:3.13-slim\nCOPY . .\nRUN uv sync --frozen && pip install ./tool[all]\n",
        pyproject_DOT_toml=table.format("hatchling") + workspace,
        uv_DOT_lock="version = 1\n",
        libs__a__pyproject_DOT_toml=table.format("Setuptools==79"),
        tool__pyproject_DOT_toml=table.format("flit-core>=3"),
        other__pyproject_DOT_toml=table.format("maturin"),
    )
    adopt(tmp_path / "x", InitOptions())
    lines = (tmp_path / "x/requirements/build.in").read_text().splitlines()
    assert sorted(lines) == ["Setuptools==79", "flit-core>=3", "hatchling", "pip>=25", "wheel>=0.45"]
    assert not (tmp_path / "x/requirements/builder.apt").exists(), "nothing is compiled from C"


def test_image_with_compilers_gives_them_to_the_builder(tmp_path: Path) -> None:
    make(tmp_path / "x", Dockerfile="FROM python:3.13\nCOPY a a\n", a__b="")
    adopt(tmp_path / "x", InitOptions())
    assert (tmp_path / "x/requirements/builder.apt").read_text() == "build-essential\n"


def test_root_is_the_image_by_name_with_apt_lists_on_top(service: Path) -> None:
    (service / "Dockerfile").write_text(DOCKERFILE.replace("3.11", "3.12"))
    adopt(service, InitOptions())
    base, builder = (load_graph(service).stages[name] for name in ("base", "builder"))
    assert (base.image, base.apt, builder.apt) == (
        "docker.io/library/python:3.12-slim", "requirements/base.apt", "requirements/builder.apt",
    )  # fmt: skip
    assert (service / "requirements/base.apt").read_text() == "libgomp1\n"
    assert (service / "requirements/builder.apt").read_text() == "gcc\n"
    assert [(run.command[-1], run.network) for run in base.run] == [("useradd --uid 1000 --create-home svc", False)]


def test_models_are_layers_of_their_own_at_their_place(service: Path) -> None:
    adopt(service, InitOptions())
    models = load_graph(service).stages["models"].models
    assert models is not None
    assert (models.target, models.names) == ("/app", ("models",))
    assert 'source = "path:models"\nfiles = ["a.onnx"]' in (service / "requirements/models.toml").read_text()
    assert (service / ".containerignore").read_text().splitlines() == [
        "**/*.md",
        "# packed as models, in layers of their own",
        "models/a.onnx",
    ]


def test_folder_of_models_alone_is_not_copied_as_well(service: Path) -> None:
    (service / "models/labels.txt").unlink()
    adopt(service, InitOptions())
    assert load_graph(service).stages["app"].copy == (Copy(source="/src", target="/app/src"),)


def test_file_that_git_ignores_is_named(service: Path) -> None:
    (service / "src/local.py").write_text("x = 1\n")
    (found,) = adopt(service, InitOptions()).leftovers
    assert str(found).startswith("Dockerfile: COPY took src/local.py\n")


def test_nothing_is_overwritten(service: Path) -> None:
    adopt(service, InitOptions())
    (service / "stages/app/stage.toml").write_text('summary = "mine"\n')
    before = {path: path.read_bytes() for path in service.rglob("*") if path.is_file() and ".git/" not in str(path)}
    with pytest.raises(DefinitionError, match=r"nothing was written, because it is there already: stages/app"):
        adopt(service, InitOptions())
    assert before == {path: path.read_bytes() for path in before}


def test_second_service_shares_the_base_of_the_first(service: Path) -> None:
    text = DOCKERFILE.replace("COPY models models\n", "").replace("COPY src src\n", "COPY worker worker\n")
    make(service, worker__Dockerfile=text, worker__run_DOT_py="x = 1\n")
    (service / "models/a.onnx").unlink()
    adopt(service, InitOptions())
    done = adopt(service, InitOptions(files=("worker/Dockerfile",), name="worker"))
    assert set(done.written) == {"stages/worker/stage.toml", "requirements/worker.in"}
    graph = load_graph(service)
    assert graph.stages["worker"].base == graph.stages["app"].base == "base"
    (service / "requirements/base.apt").write_text("python3.11\n")
    with pytest.raises(DefinitionError, match=r"there already: requirements/base\.apt$"):
        adopt(service, InitOptions(files=("worker/Dockerfile",), name="other"))


def test_one_file_that_exists_stops_everything(service: Path) -> None:
    make(service, stages__app__stage_DOT_toml='summary = "mine"\n')
    with pytest.raises(DefinitionError, match=r"there already: stages/app/stage\.toml$"):
        adopt(service, InitOptions())
    assert not (service / "pyproject.toml").exists()
    assert not (service / "requirements").exists()


def test_draft_elsewhere_changes_nothing(service: Path) -> None:
    make(service, stages__app__stage_DOT_toml='summary = "mine"\n', pyproject_DOT_toml='[project]\nname = "x"\n')
    done = adopt(service, InitOptions(into="draft"))
    assert done.extended == ()
    assert (service / "draft/stages/app/stage.toml").is_file()
    assert (service / "pyproject.toml").read_text() == '[project]\nname = "x"\n'


def test_pyproject_of_the_folder_elsewhere_keeps_what_it_has(service: Path) -> None:
    make(service, libs__kit__pyproject_DOT_toml='[project]\nname = "kit"\n')
    assert adopt(service, InitOptions(into="libs/kit")).extended == ("pyproject.toml",)
    text = (service / "libs/kit/pyproject.toml").read_text()
    assert text.startswith('[project]\nname = "kit"\n\n[tool.buildkit]\n')


def test_settings_are_added_to_a_pyproject(service: Path) -> None:
    text = '[project]\nname = "detector"\nversion = "1"\n\n[tool.ruff]\nline-length = 99\n'
    make(service, pyproject_DOT_toml=text)
    assert adopt(service, InitOptions()).extended == ("pyproject.toml",)
    after = (service / "pyproject.toml").read_text()
    assert after.startswith(text)
    assert load_project(service).name == "detector"


def test_noxfile_stays_and_is_told_what_to_add(service: Path) -> None:
    (service / "noxfile.py").write_bytes(b"# gr\xfcn\nimport nox\n")
    (found,) = adopt(service, InitOptions()).leftovers
    assert (found.file, "register()" in found.advice) == ("noxfile.py", True)
    assert (service / "noxfile.py").read_bytes() == b"# gr\xfcn\nimport nox\n"


@pytest.mark.parametrize(
    ("files", "locks", "copies"),
    [
        ({"uv_DOT_lock": "version = 1\n", "pyproject_DOT_toml": '[project]\nname = "x"\n'}, ("uv.lock",), 1),
        ({"requirements_DOT_txt": "click\n"}, ("requirements/app.txt",), 1),
    ],
)
def test_project_without_a_containerfile(
    tmp_path: Path, files: dict[str, str], locks: tuple[str, ...], copies: int
) -> None:
    make(tmp_path / "x", **files)
    adopt(tmp_path / "x", InitOptions())
    text = (tmp_path / "x/stages/app/stage.toml").read_text()
    assert all(f'"{lock}"' in text for lock in locks)
    assert text.count("[[copy]]") == copies


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"a": "b"}, InitOptions(), "there is no Containerfile, no lock, no requirements file and no package here"),
        ({"a": "b"}, InitOptions(files=("x",)), "x: there is no such file"),
        ({"Dockerfile": "FROM a AS b\n"}, InitOptions(target="c"), "Dockerfile: there is no build stage `c`"),
        ({"Dockerfile": "FROM $A\n"}, InitOptions(), "Dockerfile: its base is not known"),
        ({"_DOT_python-version": "3.9"}, InitOptions(), "there is no Containerfile, and Debian has no Python 3.9"),
    ],
)
def test_what_cannot_be_adopted(tmp_path: Path, files: dict[str, str], options: InitOptions, message: str) -> None:
    make(tmp_path / "x", **files)
    with pytest.raises(DefinitionError) as caught:
        adopt(tmp_path / "x", options)
    assert caught.value.message == message
    assert caught.value.hint


BRIDGED = """ARG RELEASE
FROM python:3.13-slim AS tools
RUN cmake --install /opt/tool
FROM tools AS runtime
ARG MODE=fast
COPY src /app
"""


def test_containerfile_with_other_commands_can_stay_as_the_root(tmp_path: Path) -> None:
    compose = "services:\n  api:\n    build: {context: docker, target: runtime, args: {MODE: slow, OTHER: 1}}\n"
    make(tmp_path / "x", docker__Dockerfile=BRIDGED, docker__src__a_DOT_py="", compose_DOT_yaml=compose)
    bridge = adopt(tmp_path / "x", InitOptions()).leftovers[-1]
    assert str(bridge).startswith("docker/Dockerfile: or keep it as the root, until it is taken apart\n")
    first, *shown = bridge.advice.splitlines()
    assert first == "let stages/base/stage.toml be nothing but"
    table = "\n".join(line[2:] for line in shown if line.startswith("  ") or not line)
    (tmp_path / "x/stages/base/stage.toml").write_text(table)
    base = load_graph(tmp_path / "x").stages["base"]
    assert base.containerfile == ContainerfileRoot(
        file="docker/Dockerfile", context="docker", target="runtime", network=True,
        args=(("MODE", "slow"), ("RELEASE", "VALUE")),
    )  # fmt: skip
    inputs = find_containerfile_inputs(BRIDGED, base.containerfile)
    assert inputs.base == "docker.io/library/python:3.13-slim"


@pytest.mark.parametrize(
    ("command", "offered"),
    [
        ("cmake --install /opt/tool", True),
        ("curl -LO https://example.org/tool.tar.gz", True),
        ("add-apt-repository ppa:a/b", True),
        ("pip install fastapi", False),
        ("mkdir /data", False),  # `tmpfs` or a volume, at run time
        ("python manage.py collectstatic", False),  # it needs packages, which no root should have
    ],
)
def test_root_is_offered_for_what_would_be_a_step(tmp_path: Path, command: str, offered: bool) -> None:
    make(tmp_path / "x", Dockerfile=f"FROM python:3.13-slim\nRUN {command}\n")
    found = adopt(tmp_path / "x", InitOptions()).leftovers
    assert any("containerfile = " in left.advice for left in found) is offered


def test_builder_on_a_containerfile_loses_its_packages(tmp_path: Path) -> None:
    text = "FROM python:3.13-slim\nRUN apt-get install -y gcc && cmake --install /opt/tool\n"
    make(tmp_path / "x", Dockerfile=text)
    assert "remove [apt] from stages/builder/stage.toml" in adopt(tmp_path / "x", InitOptions()).leftovers[-1].advice


@pytest.mark.parametrize("text", ["ARG A\nFROM $A\n", "FROM scratch\n"])
def test_file_whose_base_is_not_known_can_be_the_root(tmp_path: Path, text: str) -> None:
    make(tmp_path / "x", Dockerfile=text)
    with pytest.raises(DefinitionError) as caught:
        adopt(tmp_path / "x", InitOptions())
    assert "or keep it as the root: write stages/base/stage.toml" in caught.value.hint
    assert '\n  containerfile = "Dockerfile"\n' in caught.value.hint
    assert ('args = { "A" = "VALUE" }' in caught.value.hint) is ("ARG" in text)


def test_containerfile_of_a_service_below_is_named(tmp_path: Path) -> None:
    make(tmp_path / "x", services__worker__Dockerfile="FROM a\n", services__api__Dockerfile="FROM a\n")
    with pytest.raises(DefinitionError) as caught:
        adopt(tmp_path / "x", InitOptions())
    assert "nox -s init -- --file services/api/Dockerfile" in caught.value.hint


def test_output_names_files_and_the_next_command(service: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: run(service, [])) == 0
    text = capsys.readouterr().out
    assert "  wrote stages/app/stage.toml\n" in text
    assert text.endswith("next: git add -A && nox -s lock && nox -s build-app && nox -s run-app\n")
