"""JSON beside models: what makes a loader import, call, download or run something, wherever it stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.findings import Severity
from buildkit.scan import Verdict
from buildkit.scan.formats.structures import walk
from tests.scan.formatmaker import rules, scan_bytes, worst

INDEX = {"metadata": {"total_size": 8}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors"}}
ACTIVE = [
    # model_index.json of diffusers
    ({"_class_name": ["pipeline_evil", "Pipe"], "_diffusers_version": "0.30.0"}, "config-imports"),
    ({"_class_name": "P", "_diffusers_version": "0.30.0", "unet": ["pipeline_evil", "Pipe"]}, "config-imports"),
    ({"_class_name": "P", "custom": ["os", "system"]}, "config-imports"),
    ({"unet": ["subprocess", "Popen"], "vae": ["diffusers", "AutoencoderKL"]}, "config-imports"),
    ({"_class_name": "P", "vae": ["diffusers.utils.os", "system"]}, "config-imports"),
    # sentence-transformers: modules.json, router_config.json, the configuration of a dense layer
    ([{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}], "config-imports"),
    ([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.os.system"}], "config-imports"),
    ({"types": {"a": "evil.Module"}, "structure": {"a": ["a"]}}, "config-imports"),
    ({"in_features": 4, "out_features": 4, "activation_function": "os.getcwd"}, "config-imports"),
    ({"sentence_transformers": {"activation_fn": "evil.f"}}, "config-imports"),
    ({"sbert_ce_default_activation_function": "torch.nn.modules.os.abort"}, "config-imports"),
    # transformers
    ({"custom_generate": "someone/repository"}, "transformers-remote-code"),
    ({"max_length": 4, "custom_generate": "custom_generate/generate.py"}, "transformers-remote-code"),
    ({"custom_pipelines": {"t": {"impl": "pipe.Pipe", "pt": ["AutoModel"]}}}, "transformers-remote-code"),
    ({"processor_class": "X", "auto_map": {"AutoProcessor": "processing_x.X"}}, "transformers-remote-code"),
    ({"tokenizer_class": "evil.Tokenizer"}, "config-imports"),
    ({"attn_implementation": "someone/kernel"}, "transformers-remote-code"),
    ({"text_config": {"trust_remote_code": "yes"}}, "transformers-trust-switch"),
    # PEFT
    ({"peft_type": "LORA", "auto_mapping": {"base_model_class": "M", "parent_library": "evil"}}, "config-imports"),
    ({"auto_mapping": {"base_model_class": "system", "parent_library": "os"}}, "config-imports"),
    ({"peft_type": "LORA", "megatron_core": "antigravity"}, "config-imports"),
    # indexes of shards
    *(({"weight_map": {"a": "model.bin", "b": path}}, "config-path-escapes")
      for path in ("../x.bin", "https://evil/x.bin", "/etc/x", "a/../../x", "C:\\x", "~/x")),
    ([{"paths": ["../shard"], "weights": []}], "config-path-escapes"),
    # MLflow, ONNX Runtime GenAI, LangChain, Monty, Lightning
    ({"python_function": {"loader_module": "evil"}}, "config-imports"),
    ({"loader_module": "mlflow.sklearn", "code": "code"}, "transformers-remote-code"),
    ({"model": {"decoder": {"session_options": {"custom_ops_library": "x.so"}}}}, "transformers-remote-code"),
    ({"lc": 1, "type": "constructor", "id": ["evil", "X"], "kwargs": {}}, "langchain-object"),
    ({"lc": 1, "type": "secret", "id": ["HOME"]}, "langchain-object"),
    ({"@module": "os", "@class": "system"}, "config-imports"),
    ({"@module": "evil", "@callable": "f"}, "config-imports"),
    ({"class_path": "os.system", "init_args": {}}, "hydra-target"),
    ({"a": {"impl": "subprocess.Popen"}}, "hydra-target"),
    # jsonpickle
    ({"py/object": "evil.X"}, "jsonpickle"),
    ({"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["id"]}]}, "jsonpickle"),
    ({"py/type": "os.system"}, "jsonpickle"),
    ({"py/repr": "os/os.system('id')"}, "jsonpickle"),
]  # fmt: skip


@pytest.mark.parametrize(("settings_", "rule"), ACTIVE, ids=lambda value: str(value)[:50])
def test_setting_that_acts_is_found_wherever_it_stands(settings_: object, rule: str) -> None:
    text = json.dumps(settings_)
    for content in (text, json.dumps({"a": [1, {"b": settings_}]}), f'{{"x": 1}}\n{text}\n'):
        found = scan_bytes(content.encode())
        assert rule in {one.rule.id for one in found.findings}
        assert found.verdict is Verdict.FINDINGS


def escaped(text: str) -> str:
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'


@pytest.mark.parametrize(("settings_", "rule"), ACTIVE, ids=lambda value: str(value)[:50])
def test_escaped_or_shadowed_key_hides_nothing(settings_: object, rule: str) -> None:
    object_ = settings_[0] if isinstance(settings_, list) else settings_
    assert isinstance(object_, dict)
    pairs = [f"{escaped(key)}: {json.dumps(value)}" for key, value in object_.items()]
    hidden = [f"{escaped(key)}: null" for key in object_]
    assert json.loads("{" + ",".join(pairs) + "}") == object_
    for content in (pairs, pairs + hidden, hidden + pairs):  # of equal keys Python takes the last, others the first
        assert rule in rules(("{" + ",".join(content) + "}").encode())


@pytest.mark.parametrize(
    "settings_",
    [
        {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0", "feature_extractor": ["transformers",
         "CLIPImageProcessor"], "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "scheduler": [
         "diffusers", "PNDMScheduler"], "unet": ["diffusers", "UNet2DConditionModel"], "image_encoder": [None, None],
         "requires_safety_checker": True},
        {"_class_name": "UNet2DConditionModel", "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
         "_diffusers_version": "0.6.0", "block_out_channels": [320, 640]},
        [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
         {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
        {"in_features": 4, "out_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"},
        {"activation_function": "gelu_new", "n_embd": 768},
        {"peft_type": "LORA", "auto_mapping": {"base_model_class": "BertModel", "parent_library":
         "transformers.models.bert.modeling_bert"}, "megatron_core": "megatron.core", "megatron_config": None},
        {"peft_type": "LORA", "auto_mapping": None, "base_model_name_or_path": "meta-llama/Llama-3", "r": 8},
        INDEX,
        {"eos_token_id": 2, "transformers_version": "4.40.0", "custom_generate": None},
        {"tokenizer_class": "LlamaTokenizer", "processor_class": "LlavaProcessor", "_attn_implementation": "sdpa"},
        {"paths": ["../x"], "type": "object"},
        {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "PromptTemplate"], "kwargs": {}},
        {"model": {"vocab": {"os.system": 1, "py/object": 2}, "merges": ["os .system"]}},
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_ordinary_configuration_is_clean(settings_: object) -> None:
    assert scan_bytes(json.dumps(settings_).encode()).findings == ()


_PLAIN = st.recursive(
    st.sampled_from([1, None, True, "x", "_target_", "os.path"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(_PLAIN, st.lists(st.sampled_from(["list", "object", "double"]), max_size=6))
def test_target_is_found_at_any_depth(beside: object, around: list[str]) -> None:
    text = json.dumps({"_target_": "os.system", "z": beside})
    for kind in around:
        text = {"list": f"[{text}, 1]", "object": f'{{"a": {text}}}', "double": f'{{"a": {text}, "a": 1}}'}[kind]
    if any(isinstance(node, dict) and node.get("_target_") == "os.system" for node in walk(json.loads(text))):
        assert worst(text.encode()) is Severity.CRITICAL
    assert "hydra-target" in rules(text.encode())


def test_any_number_of_equal_keys_hides_nothing_from_a_parser_that_takes_the_first() -> None:
    many = ", ".join('"a": 1' for _ in range(150))
    found = scan_bytes(f'{{{many}, "class_path": "evil.f", "class_path": "torch.nn.Linear"}}'.encode())
    assert "hydra-target" in {one.rule.id for one in found.findings}


def test_setting_with_too_many_values_is_never_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    index = json.dumps({"weight_map": {"a": "../x.bin", **{str(n): "model.bin" for n in range(20)}}}).encode()
    assert {one.rule.id for one in scan_bytes(index).findings} == {"config-path-escapes"}
    monkeypatch.setattr("buildkit.scan.formats.configs._MOST_TEXTS", 10)
    assert "a setting with more than 10 values" in [gap.why for gap in scan_bytes(index).gaps]


def test_other_finding_hides_no_name_of_a_function_that_runs_something() -> None:
    found = scan_bytes(b'{"trust_remote_code": true, "b": {"impl": "subprocess.Popen"}}')
    assert {one.rule.id for one in found.findings} == {"transformers-trust-switch", "hydra-target"}


def test_name_that_is_found_by_its_key_is_reported_once() -> None:
    found = scan_bytes(b'{"class_path": "os.system"}')
    assert [one.rule.id for one in found.findings] == ["hydra-target"]
