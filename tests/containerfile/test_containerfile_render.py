"""Rendering compositions as Containerfiles: order of instructions and refused values. Starts no program."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from buildkit.containerfile.builder import ContainerfileBuilder, ContainerfileExport, ExportOptions
from buildkit.containerfile.render import render_export
from buildkit.containerfile.tool_stages import ToolStages
from buildkit.declare.project import parse_project
from buildkit.errors import DefinitionError
from buildkit.locks.model_source import HubSource, OciSource, PypiSource, UrlSource
from buildkit.locks.pins import Model
from tests.plan.planfakes import MB, STAGES, FakeCheckout, base_checkout, composer, model_file, sdist, tree_file, wheel

_IMAGE = "docker.io/library/python@sha256:" + "0" * 64


def export(
    name: str = "runtime",
    stages: dict[str, str] | None = None,
    checkout: FakeCheckout | None = None,
    settings: str = "",
    **options: object,
) -> ContainerfileExport:
    made = composer(stages, checkout, settings)
    given = ExportOptions(**options)  # type: ignore[arg-type]
    return render_export(made.compose(name), lambda: made.builder, made._project, given)


def builds(made: ContainerfileExport) -> dict[str, str]:
    """The build stages by name, instructions joined into lines, without comments."""
    lines = [line for line in made.text.splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    found = re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(dict(found)) == len(found), "two build stages have one name"
    return dict(found)


def side(made: ContainerfileExport, name: str) -> str:
    (text,) = (file.text for file in made.files if file.path.endswith(f"/{name}"))
    return text


def test_image_copies_heavy_wheels_then_light_then_config_then_files() -> None:
    last = list(builds(export()).items())[-1]
    assert last[0] == "runtime"
    copies = [line for line in last[1].splitlines() if line.startswith(("COPY", "CMD"))]
    assert copies == [
        "COPY --from=venv /opt/venv /opt/venv",
        "COPY --from=heavy-wheels /wheels/opt/venv /opt/venv",
        "COPY --chmod=0644 big.bin /models/vad/",
        "COPY --from=light-wheels /wheels/opt/venv /opt/venv",
        "COPY --from=compiled-wheels /wheels/opt/venv /opt/venv",
        "COPY --chmod=0644 a.json b.json /models/vad/",
        'CMD ["run"]',
        "COPY stages/runtime/app /app/",
        "COPY stages/runtime/conf /etc/app/",
    ]


def test_every_requirement_names_the_one_file_that_is_locked() -> None:
    made = export()
    assert side(made, "heavy-wheels.txt").startswith("heavy==1.0 \\\n    --hash=sha256:")
    light = side(made, "light-wheels.txt")
    assert re.findall(r"^(\w+)==", light, re.MULTILINE) == ["light", "thin"]
    assert light.count("--hash=sha256:") == 2
    for build in ("heavy-wheels", "light-wheels"):
        assert "--require-hashes --only-binary=:all:" in builds(made)[build]
        assert "--mount=type=cache,target=/root/.cache/pip" in builds(made)[build]


def test_package_of_a_git_repository_is_compiled_from_its_commit_without_a_hash() -> None:
    place = f"git+https://example.org/kit.git@{'b' * 40}"
    kit = replace(sdist("kit"), file="kit-b.tar", place=place)
    checkout = base_checkout()
    lock = next(lock for lock, wheels in checkout.wheels.items() if any(not one.is_wheel for one in wheels))
    checkout.wheels[lock] = (*checkout.wheels[lock], kit)
    made = export(checkout=checkout)
    assert side(made, "compile-kit.txt") == f"kit @ {place}\n", "pip hashes no commit, which is its own hash"
    assert "--require-hashes" not in builds(made)["compile-kit"]


def test_root_is_made_by_mmdebstrap_at_exact_versions_without_tools_in_the_image() -> None:
    made = export()
    found = builds(made)
    assert side(made, "base.packages").endswith("libc6=2.41\npython3.13=3.13.5\n")
    script = side(made, "base-root.sh")
    assert "./usr/share/man/" in script
    assert "ml:x:1000:1000::/home/ml:/usr/sbin/nologin" in script
    assert found["tools"].startswith("RUN export DEBIAN_FRONTEND=noninteractive ")
    assert found["base"] == "COPY --from=base-rootfs /rootfs/ /\n\n"
    assert "FROM scratch AS base" in made.text
    assert "FROM base AS runtime" in made.text


def test_builder_stage_has_its_root_steps_and_environment() -> None:
    made = export()
    found = builds(made)
    assert "apt-get install" in found["builder"]
    assert "gcc=14" in found["builder"]
    step = re.search(r"RUN --mount=type=bind,source=tools,target=/mnt\s+(.*)", found["builder"])
    assert step is not None
    assert step[1] == '["env", "A=1", "/bin/sh", "-eu", "-c", "true"]'
    compiling = next(name for name in found if name.startswith("builder") and "CFLAGS=-O2" in found[name])
    assert f"FROM {compiling} AS compile-native" in made.text
    assert "--no-build-isolation" in found["compile-native"]
    assert side(made, "compile-native.txt").startswith("native==1.0 \\\n    --hash=sha256:")


def test_bytecode_option_controls_compilation() -> None:
    made = export(bytecode=True)
    found = builds(made)
    for build in ("heavy-wheels", "light-wheels", "compiled-wheels"):
        assert "Podmanfile.d/bytecode.py" in found[build].partition("RUN ")[0]
        assert re.search(r" && /opt/venv/bin/python /tmp/bytecode\.py /wheels$", found[build].rstrip())
    assert "compileall" in side(made, "bytecode.py")
    assert "|| true" not in made.text
    without = export(bytecode=False)
    assert "bytecode" not in without.text + side(without, "base-root.sh")
    assert not [file for file in without.files if "bytecode" in file.path]


def test_comments_about_tools_do_not_claim_that_their_output_is_left_out() -> None:
    text = export().text
    assert "COPY --from=venv /opt/venv /opt/venv" in text
    assert not re.search(r"^#.*\b(nothing|none)\b.*\b(reach|image)", text, re.MULTILINE)
    assert text.count("no file of ") == 2
    assert text.count("what they make and fetch goes on") == 1


def test_link_option_is_set_on_every_copy_into_the_image_only_if_requested() -> None:
    last = builds(export(link=True))["runtime"]
    assert all("--link" in line for line in last.splitlines() if line.startswith("COPY"))
    assert "--link" not in export().text


def test_find_links_option_installs_wheels_from_a_folder() -> None:
    made = export(find_links="wheels")
    assert "--mount=type=bind,source=wheels,target=/links" in builds(made)["light-wheels"]
    assert "--no-index --find-links /links" in builds(made)["light-wheels"]
    assert "--no-index --find-links /links" in builds(made)["compile-native"]
    assert "!wheels\n" in ignore_file(made)
    uv = export(find_links="wheels", uv="ghcr.io/astral-sh/uv:0.9")
    assert "--no-index --find-links /links" in builds(uv)["light-wheels"]
    assert "--mount=type=cache,target=/root/.cache/uv" in builds(uv)["light-wheels"]
    assert "uv pip install --python /opt/venv/bin/python --prefix /wheels/opt/venv" in builds(uv)["heavy-wheels"]
    assert uv.text.count("FROM ${UV} AS uv") == 1


def test_root_option_replaces_the_root_and_resets_its_config() -> None:
    made = export(root="localhost/ready:1")
    assert "mmdebstrap" not in made.text
    assert "ARG ROOT=localhost/ready:1" in made.text
    assert "ENTRYPOINT []" in builds(made)["runtime"]


def on_registry_image(runtime: str = "", base: str = "", **options: object) -> ContainerfileExport:
    stages = {
        "base": f'summary = "base"\n[root]\nimage = "{_IMAGE}"\n{base}',
        "runtime": f'summary = "r"\nfrom = "base"\ninclude = ["deps"]\n{runtime}',
        "deps": STAGES["deps"],
    }
    checkout = base_checkout()
    checkout.wheels = {"deps.txt": (wheel("light"),)}
    return export(stages=stages, checkout=checkout, **options)


def test_config_of_a_registry_image_is_inherited_as_in_a_build() -> None:
    made = on_registry_image()
    assert f"FROM {_IMAGE} AS base" in made.text
    assert "PATH=/opt/venv/bin:${PATH:-/usr/local/sbin" in builds(made)["runtime"]
    words = ("WORKDIR", "USER", "ENTRYPOINT", "CMD", "HEALTHCHECK", "STOPSIGNAL")
    assert not [line for line in builds(made)["runtime"].splitlines() if line.startswith(words)]


_STEP = '[[run]]\ncommand = ["true"]\n'


def test_steps_on_a_registry_image_run_as_root_and_the_image_as_its_user() -> None:
    made = builds(on_registry_image('[config]\nuser = "1234"\n', _STEP))
    assert made["base"].splitlines()[:2] == ["USER 0", 'RUN ["true"]']
    assert "USER 1234" in made["runtime"].splitlines()


def test_steps_on_a_registry_image_of_unknown_user_are_refused() -> None:
    with pytest.raises(DefinitionError, match="cannot return to the user"):
        on_registry_image(base=_STEP)


def test_root_option_resets_the_user_that_steps_had() -> None:
    made = builds(on_registry_image(base=_STEP, root="localhost/ready:1"))
    assert made["base"].splitlines()[:2] == ["USER 0", 'RUN ["true"]']
    assert "USER 0" in made["runtime"].splitlines()


def test_stage_without_a_root_starts_from_scratch() -> None:
    assert "FROM scratch AS weights" in export("weights").text


def test_remote_models_are_fetched_and_verified_in_separate_stages() -> None:
    checkout = base_checkout()
    big = model_file("deep/big.bin", 9 * MB)
    url = Model(
        name="far", version="", source=UrlSource(url="https://example.org/x"), license="MIT",
        files=(
            type(big)(path="deep/big.bin", sha256=big.sha256, size=big.size, source="https://example.org/x/big.bin?a=1&b"),
            type(big)(path="small.txt", sha256=big.sha256, size=1, source="https://example.org/x/small.txt"),
        ),
    )  # fmt: skip
    packed = Model(
        name="packed", version="2", source=PypiSource(project="packed"), license="MIT", wheel=wheel("packed"),
        files=(type(big)(path="m.onnx", sha256=big.sha256, size=1, source="packed/data/m.onnx"),),
    )  # fmt: skip
    checkout.locked = {"models.lock": (url, packed)}
    made = export("weights", checkout=checkout)
    found = builds(made)
    assert "'https://example.org/x/big.bin?a=1&b'" in found["model-far-big.bin"]
    assert "curl" not in found["model-packed"]
    assert side(made, "model-packed.sha256") == f"{big.sha256.hex}  /model/m.onnx\n"
    assert "--require-hashes" in found["model-packed"]
    copies = [line for line in found["weights"].splitlines() if line.startswith("COPY")]
    assert copies == [
        "COPY --from=model-far-big.bin /model/ /models/far/",
        "COPY --from=model-far-small.txt /model/ /models/far/",
        "COPY --from=model-packed /model/ /models/packed/",
    ]
    for name in ("model-far-small.txt", "model-far-big.bin", "model-packed"):
        assert "sha256sum --check --strict" in found[name]


def test_a_model_in_a_hubs_cache_is_linked_and_one_of_a_registry_is_refused() -> None:
    checkout = base_checkout()
    file, commit = model_file("sub/a.json", 1), "c" * 40
    url = f"https://huggingface.co/org/name/resolve/{commit}/sub/a.json"
    cached = Model(
        name="hub", version=commit, source=HubSource(url="https://huggingface.co/org/name"), license="",
        layout="hf-cache", files=(type(file)(path="sub/a.json", sha256=file.sha256, size=1, source=url),),
    )  # fmt: skip
    checkout.locked = {"models.lock": (cached,)}
    found = builds(export("weights", checkout=checkout))
    blob, link = f"blobs/{file.sha256.hex}", f"/model/snapshots/{commit}/sub/a.json"
    assert f"--output /model/{blob} {url}" in found["model-hub"]
    assert f"ln -s ../../../{blob} {link}" in found["model-hub"]
    assert f"printf %s {commit} > /model/refs/main" in found["model-hub"]
    assert "COPY --from=model-hub /model/ /models/hub/models--org--name/" in found["weights"]
    assert "HF_HUB_CACHE" in found["weights"]
    checkout.locked = {"models.lock": (replace(cached, layout="plain", source=OciSource(url="oci://r.test/m:1")),)}
    with pytest.raises(DefinitionError, match=r"the model hub is from a registry \(oci:r.test/m:1\)"):
        export("weights", checkout=checkout)


def test_project_stage_names_are_kept_and_generated_ones_numbered() -> None:
    stages = {**STAGES, "venv": STAGES["runtime"].replace('"base"', '"tools"'), "tools": STAGES["base"]}
    checkout = base_checkout()
    checkout.trees |= {path.replace("runtime", "venv"): files for path, files in checkout.trees.items()}
    found = builds(export("venv", stages, checkout))
    assert list(found)[-1] == "venv"
    assert {"venv-2", "tools", "tools-2"} <= found.keys()


def test_ignore_file_admits_only_the_sources_that_are_read() -> None:
    text = ignore_file(export(ignored="**/*.md\n"))
    assert text.index("\n*\n") < text.index("!Podmanfile.d\n") < text.index("!stages/runtime/app\n")
    assert text.endswith("**/*.md\n")
    assert "!stages/builder" not in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('MODE = "x"', 'MODE = "x\\ny"', r"stages/runtime/stage\.toml: `config\.env\.MODE`: contains a line break"),
        ('target = "/app"', 'target = "/$app"', r"`copy\.target`: `/\$app` contains `\$`"),
        ('user = "ml"', 'user = "m\\u0007"', r"`config\.user`: contains a line break or a control"),
    ],
)
def test_stage_values_that_a_containerfile_cannot_express_are_refused(old: str, new: str, message: str) -> None:
    assert old in STAGES["runtime"]
    with pytest.raises(DefinitionError, match=message):
        export(stages={**STAGES, "runtime": STAGES["runtime"].replace(old, new)})


def test_copy_of_a_single_symbolic_link_is_refused() -> None:
    checkout = base_checkout()
    checkout.trees["stages/runtime/app"] = (tree_file(".", link="elsewhere"),)
    with pytest.raises(DefinitionError, match="is a symbolic link"):
        export(checkout=checkout)


def test_models_that_containers_mount_are_refused() -> None:
    """A Containerfile makes one image, and its links would lead nowhere."""
    stages = {**STAGES, "runtime": STAGES["runtime"].replace("from =", 'models = "mount"\n        from =')}
    for name in ("runtime", "runtime-models"):
        with pytest.raises(DefinitionError) as caught:
            export(name, stages)
        assert caught.value.message == (
            "stages/runtime/stage.toml: its models are an image of their own, `runtime-models`, which containers "
            "mount, and a Containerfile makes one image"
        )
        assert caught.value.hint == (
            "to export an image that holds them, include the same stages in another stage, without "
            'models = "mount" (models.mount = false where `from` inherits it)'
        )
    assert "COPY" in export("weights", stages).text


def test_equal_values_render_equal_text() -> None:
    assert export() == export()


def ignore_file(made: ContainerfileExport) -> str:
    (text,) = (file.text for file in made.files if file.path == "Podmanfile.dockerignore")
    return text


def test_names_of_suites_arguments_are_valid_and_unique() -> None:
    """Suites have dots and dashes, which no build argument may have, and two may differ in these alone."""
    builder = ContainerfileBuilder(ExportOptions(), ())
    tools = ToolStages(builder, parse_project("", Path("/nowhere")))
    suites = ("trixie", "a.b", "a-b", "a_b", "sid")
    stages = [tools.debian(suite, "curl") for suite in suites for _ in range(2)]
    assert len(set(stages)) == len(suites)
    assert list(builder.arguments) == ["DEBIAN", "DEBIAN_A_B", "DEBIAN_A_B_2", "DEBIAN_A_B_3", "DEBIAN_SID"]
    assert [image for image, _ in builder.arguments.values()] == [f"docker.io/library/debian:{s}-slim" for s in suites]


def test_own_python_is_fetched_verified_and_copied_below_the_wheels() -> None:
    made = builds(export(settings="interpreter = 'standalone'"))
    fetched = made["standalone-python"]
    assert "curl" in fetched
    assert "sha256sum --check --strict --quiet" in fetched
    assert "lib/python3*/site-packages/* " in fetched
    assert "-m compileall -q --invalidation-mode unchecked-hash lib/python3.13" in fetched
    copy = "COPY --from=standalone-python /opt/python /opt/python"
    assert made["runtime"].splitlines()[:2] == [copy, "COPY --from=venv /opt/venv /opt/venv"]
    (compiled,) = (text for name, text in made.items() if name.startswith("compile-"))
    assert "CC=gcc" in compiled
