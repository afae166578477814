"""``[framework]``: what becomes a variable, what becomes a layer, and what neither of them moves."""

from __future__ import annotations

import io
import json

import pytest
from planfakes import STAGES, FakeCheckout, base_checkout, composer, keys, wheel
from test_explain_causes import between, build_history, explain

from buildkit.build.layer_members import members_of_framework
from buildkit.containerfile.builder import ExportOptions
from buildkit.containerfile.render import render_export
from buildkit.declare.stage import Running
from buildkit.errors import DefinitionError
from buildkit.layers.framework import module_files
from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer
from buildkit.plan.compose import Composition
from buildkit.plan.explain.causes import format_cause
from buildkit.plan.parity import compare_facts, describe_composition
from buildkit.plan.sizes import estimate_size
from buildkit.plan.spec import Kind, PackFramework, Spec
from buildkit.supply.collect import SbomInputs, collect

LAYER = "runtime/xoe_runtime"
EVERYTHING = """
[framework]
threads = "cgroup"
torch = { memory-fraction = 0.8, expandable-segments = true, amp = "bf16", checkpoint = true, tf32 = true }
tensorflow = { growth = true }
[framework.onnxruntime]
gpu-mem-limit = "4g"
arena-extend-strategy = "kSameAsRequested"
cudnn-conv-algo-search = "HEURISTIC"
do-copy-in-default-stream = false
"""


def checkout(*names: str, torch: str = "2.13.0") -> FakeCheckout:
    made = base_checkout()
    brought = names or ("torch", "tensorflow", "onnxruntime-gpu")
    made.wheels["deps.txt"] += tuple(wheel(name, torch if name == "torch" else "2.21.0") for name in brought)
    return made


def compose(framework: str, name: str = "runtime", made: FakeCheckout | None = None, **stages: str) -> Composition:
    tuned = STAGES | {"runtime": STAGES["runtime"] + framework} | stages
    return composer(tuned, made or checkout()).compose(name)


def layer(composition: Composition) -> Spec:
    (found,) = (spec for spec in composition.layers if spec.kind is Kind.FRAMEWORK)
    return found


def problem(framework: str, made: FakeCheckout | None = None, **stages: str) -> tuple[str, str, str]:
    with pytest.raises(DefinitionError) as raised:
        compose(framework, made=made, **stages)
    (one,) = raised.value.problems
    return one.file, one.key, one.what


def test_what_a_framework_reads_itself_is_environment_and_the_rest_is_in_the_layer() -> None:
    made = compose(EVERYTHING)
    env = dict(made.config.env)
    assert env["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert env["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    work = layer(made).work
    assert isinstance(work, PackFramework)
    assert work.target == "/opt/venv/lib/python3.13/site-packages/xoe_runtime"
    assert json.loads(work.settings) == {
        "threads": True,
        "torch": {"memory_fraction": 0.8, "amp": "bf16", "tf32": True, "checkpoint": True},
        "tensorflow": {},
        "onnxruntime": {
            "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
            "gpu_mem_limit": str(4 << 30),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "do_copy_in_default_stream": "0",
        },
    }


def test_only_the_layer_is_added_and_no_other_key_moves() -> None:
    plain, tuned = composer(STAGES, checkout()).compose("runtime"), compose(EVERYTHING)
    assert keys(tuned).keys() - keys(plain).keys() == {LAYER}
    assert keys(plain).items() <= keys(tuned).items()
    assert "PYTORCH_ALLOC_CONF" not in dict(plain.config.env)


def test_a_variable_moves_the_config_alone_and_a_setting_of_the_module_the_layer_alone() -> None:
    first = compose("[framework.torch]\nexpandable-segments = true")
    other = compose("[framework.torch]\nexpandable-segments = false")
    assert keys(first) == keys(other)
    assert first.config != other.config
    tuned = compose("[framework.torch]\nexpandable-segments = true\ntf32 = true")
    assert {name for name, key in keys(tuned).items() if keys(first)[name] != key} == {LAYER}
    assert tuned.config == first.config


def test_equal_settings_have_one_key_however_they_are_written() -> None:
    written = ('[framework.onnxruntime]\ngpu-mem-limit = "1g"', '[framework.onnxruntime]\ngpu-mem-limit = "1024m"')
    assert len({layer(compose(text)).key for text in written}) == 1


@pytest.mark.parametrize(
    ("release", "variable"),
    [
        ("2.8.0", "PYTORCH_CUDA_ALLOC_CONF"),
        ("2.9.1+cu128", "PYTORCH_CUDA_ALLOC_CONF"),
        ("2.10.0", "PYTORCH_ALLOC_CONF"),
    ],
)
def test_the_allocators_variable_is_the_one_that_the_locked_release_reads(release: str, variable: str) -> None:
    made = compose("[framework.torch]\nexpandable-segments = true", made=checkout("torch", torch=release))
    names = {name for name, _ in made.config.env if "ALLOC_CONF" in name}
    assert names == {variable}


def test_settings_follow_from_and_the_nearest_counts() -> None:
    above = compose(EVERYTHING, "top", top='summary = "top"\nfrom = "runtime"')
    assert layer(above) == layer(compose(EVERYTHING))
    own = 'summary = "top"\nfrom = "runtime"\n[framework.torch]\namp = "fp16"'
    nearest = compose(EVERYTHING, "top", top=own)
    assert json.loads(layer(nearest).work.settings) == {"torch": {"amp": "fp16"}}  # type: ignore[union-attr]
    assert layer(nearest).name == "top/xoe_runtime"
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in dict(nearest.config.env)


def test_a_stage_with_the_settings_of_another_is_equal_to_it_for_parity() -> None:
    made = compose(EVERYTHING), compose(EVERYTHING, "top", top='summary = "x"\nfrom = "runtime"')
    first, other = (describe_composition(one, Running()) for one in made)
    assert first["layer", LAYER]
    assert compare_facts(first, other, ()) == ()


def test_settings_of_an_included_stage_are_refused_unless_the_image_has_its_own() -> None:
    deps = STAGES["deps"] + '\n[framework.torch]\namp = "bf16"'
    assert problem("", deps=deps) == (
        "stages/deps/stage.toml",
        "framework",
        "does not reach `runtime`, which includes this stage: it follows `from`, as `config` does",
    )
    assert json.loads(layer(compose(EVERYTHING, deps=deps)).work.settings)["threads"]  # type: ignore[union-attr]


def test_a_framework_that_no_lock_brings_is_an_error() -> None:
    assert problem(EVERYTHING, checkout("torch", "onnxruntime")) == (
        "stages/runtime/stage.toml",
        "framework.tensorflow",
        "sets tensorflow, and no lock of this image has tensorflow or tensorflow-cpu or tf-nightly",
    )


def test_an_image_without_wheels_is_an_error() -> None:
    bare = 'summary = "x"\nfrom = "base"\n[framework]\nthreads = "cgroup"'
    assert problem("", runtime=bare)[1:] == (
        "framework",
        "needs wheels: the module xoe_runtime goes into their virtual environment, and this image has none",
    )


def test_the_roots_own_frameworks_are_believed_where_wheels_see_them() -> None:
    stages = STAGES | {"runtime": STAGES["runtime"] + EVERYTHING}
    made = composer(stages, base_checkout(), "site-packages = 'system'").compose("runtime")
    assert layer(made).name == LAYER


def test_a_variable_that_config_sets_to_something_else_is_an_error() -> None:
    runtime = STAGES["runtime"].replace('"x"', '"x", TF_FORCE_GPU_ALLOW_GROWTH = "false"') + EVERYTHING
    assert problem("", runtime=runtime)[1:] == (
        "framework",
        "sets TF_FORCE_GPU_ALLOW_GROWTH=true, and `config.env` says `false`",
    )


def test_a_copy_of_the_same_name_keeps_its_own() -> None:
    made = checkout()
    made.trees["stages/runtime/xoe_runtime"] = made.trees["stages/runtime/app"]
    copy = '\n[[copy]]\nsource = "xoe_runtime"\ntarget = "/srv"\n'
    names = keys(compose("", made=made, runtime=STAGES["runtime"] + copy + EVERYTHING))
    assert {LAYER, f"{LAYER} (2)"} <= names.keys()


def test_recipe_names_every_file_of_the_module() -> None:
    named = json.loads(layer(compose(EVERYTHING)).recipe)["module"]
    assert [name for name, _ in named] == list(module_files())
    assert {"__init__.py", "py.typed", "pytorch.py"} <= module_files().keys()


def test_size_of_the_layer_is_known_before_it_is_packed() -> None:
    spec = layer(compose(EVERYTHING))
    assert isinstance(spec.work, PackFramework)
    packed = write_layer(members_of_framework(spec.work), io.BytesIO(), Compression.NONE)
    assert estimate_size(spec) == packed.unpacked


def test_two_packings_have_the_same_bytes() -> None:
    work = layer(compose(EVERYTHING)).work
    assert isinstance(work, PackFramework)
    digests = {write_layer(members_of_framework(work), io.BytesIO(), Compression.ZSTD).digest for _ in range(2)}
    assert len(digests) == 1


def test_sbom_lists_the_module_with_its_files() -> None:
    facts = SbomInputs(image="p/runtime", version="1.0", arch="amd64", maker="0.1")
    sbom = collect(compose(EVERYTHING), facts)
    (part,) = (component for component in sbom.components if component.name == "xoe_runtime")
    assert part.layer == LAYER
    assert part.licence.expression == "Apache-2.0"
    folder = "/opt/venv/lib/python3.13/site-packages/xoe_runtime"
    assert {file.path for file in part.files} == {f"{folder}/{name}" for name in (*module_files(), "settings.json")}
    assert all(file.sha256 for file in part.files)


def test_exported_containerfile_copies_the_module_and_sets_the_variables() -> None:
    made = composer(STAGES | {"runtime": STAGES["runtime"] + EVERYTHING}, checkout())
    export = render_export(made.compose("runtime"), lambda: made.builder, made._project, ExportOptions())
    lines = export.text.splitlines()
    (copy,) = (line for line in lines if "xoe_runtime" in line)
    target = "/opt/venv/lib/python3.13/site-packages/xoe_runtime/"
    sources = copy.removeprefix("COPY --chmod=0644 ").removesuffix(f" {target}").split()
    texts = {file.path: file.text for file in export.files}
    assert {source.rpartition("/")[2]: texts[source] for source in sources} == {
        **module_files(),
        "settings.json": f"{layer(made.compose('runtime')).work.settings}\n",  # type: ignore[union-attr]
    }
    assert lines.index(copy) > lines.index("COPY --from=venv /opt/venv /opt/venv")
    assert any("PYTORCH_ALLOC_CONF" in line for line in lines)


def causes(before: str, after: str) -> list[str]:
    first, other = (composer(STAGES | {"runtime": STAGES["runtime"] + text}, checkout()) for text in (before, after))
    found = between(first, other)
    assert found.keys() <= {LAYER}, "no other layer is built"
    return [format_cause(cause) for cause in found.get(LAYER, ())]


def test_explain_names_each_setting_by_its_key_in_the_stage_file() -> None:
    where = "stages/runtime/stage.toml: framework"
    first = '[framework]\ntorch = { amp = "bf16", memory-fraction = 0.5 }\nonnxruntime = { gpu-mem-limit = "1g" }'
    other = '[framework]\nthreads = "cgroup"\ntorch = { amp = "fp16", memory-fraction = 0.25 }\nonnxruntime = {}'
    assert causes(f"\n{first}", f"\n{other}") == [
        f"framework.onnxruntime.gpu-mem-limit {1 << 30} → unset ({where}.onnxruntime.gpu-mem-limit)",
        f"framework.threads unset → true ({where}.threads)",
        f"framework.torch.amp bf16 → fp16 ({where}.torch.amp)",
        f"framework.torch.memory-fraction 0.5 → 0.25 ({where}.torch.memory-fraction)",
    ]
    assert causes("", f"\n{first}") == [f"new layer ({where})"]
    assert causes(f"\n{first}", f"\n{first}") == []


def test_explain_names_the_files_of_the_module_that_another_buildkit_changed() -> None:
    made = composer(STAGES | {"runtime": STAGES["runtime"] + EVERYTHING}, checkout())
    history = build_history(made, "runtime")
    old = json.loads(history.last[LAYER])
    old["module"] = [[name, "0" * 64 if name == "onnx.py" else digest] for name, digest in old["module"]]
    history.last[LAYER] = json.dumps(old)
    assert [format_cause(cause) for cause in explain(history, made, "runtime")[LAYER]] == [
        "xoe_runtime of this buildkit (onnx.py) changed"
    ]
