"""Keras's descriptions of models, in `.keras` and HDF5, and HDF5 itself."""

import io
import json
import zipfile

import pytest

from buildkit.findings import Severity
from buildkit.scan import Verdict
from tests.scan.formatmaker import (
    empty_zip_end,
    hdf5,
    hdf5_attribute,
    hdf5_chunked,
    hdf5_datatype,
    hdf5_dims,
    hdf5_external_link,
    hdf5_filters,
    rules,
    scan_bytes,
    worst,
)


def layer(name: str, config: object = None, module: str | None = "keras.layers", **more: object) -> dict[str, object]:
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": None,
        **more,
    }


def function(module: str, name: str) -> dict[str, object]:
    return layer("function", name, module, registered_name="function")


def model(*layers: object) -> bytes:
    model = layer("Functional", {"name": "m", "layers": layers}, "keras.src.models.functional")
    return json.dumps(model).encode()


def test_valid_keras_model_is_clean():
    dense = layer(
        "Dense",
        {
            "activation": "relu",
            "dtype": layer("DTypePolicy", {"name": "float32"}, "keras"),
            "kernel_initializer": layer("GlorotUniform", module="keras.initializers"),
            "kernel_constraint": function("keras.activations", "relu"),
            "shape": {"class_name": "__tuple__", "items": [1, 2]},
            "inbound": {"class_name": "__keras_tensor__", "config": {"shape": [1], "dtype": "f", "keras_history": []}},
        },
    )
    lookup = layer("StringLookup", {"vocabulary": ["a", "b"], "idf_weights": None})
    content = model(layer("InputLayer"), dense, lookup, layer("Sequential", {"layers": [dense]}, "keras"))
    assert scan_bytes(content).findings == ()
    assert scan_bytes(content).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "one",
    [
        layer("Lambda", {"function": {"class_name": "__lambda__", "config": {"value": "4wAA"}}}),
        layer("Lambda", {"function": ["4wAA", None, None], "function_type": "lambda", "module": "__main__"}),
        layer("Lambda", {"function": "f", "output_shape_type": "lambda", "function_type": "function"}),
        layer("Dense", {"activation": {"class_name": "__lambda__", "config": {"value": "4wAA"}}}),
        {"a": [{"class_name": "__lambda__", "config": None}]},
    ],
)
def test_keras_bytecode_is_found(one):
    assert (rules(model(one)), worst(model(one))) == ({"keras-lambda"}, Severity.CRITICAL)


def test_keras_bytecode_under_shadowed_key_is_found():
    text = '{"class_name":"Lambda","config":{"function":["4wAA"]},"config":{},"class_name":"Dense"}'
    inner = '{"x": {"class_name": "__lambda__", "config": {}}, "x": 1}'
    assert "json-double-key" in rules(text.encode())
    assert "keras-lambda" in rules(inner.encode())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"), ("builtins", "eval"), ("builtins", "exec"), ("subprocess", "Popen"), ("shutil", "rmtree"),
        ("importlib", "import_module"), ("posix", "system"), ("runpy", "run_path"), ("numpy.testing", "runstring"),
        ("torch.hub", "load"), ("ctypes", "CDLL"),
    ],
)  # fmt: skip
def test_keras_dangerous_module_is_critical(module, name):
    for one in (function(module, name), layer(name, {}, module), layer("Lambda", {"function": function(module, name)})):
        assert worst(model(one)) is Severity.CRITICAL
        assert rules(model(one)) & {"keras-module", "keras-function"}


@pytest.mark.parametrize(
    "module", ["evil", "kerasevil.layers", "keras.utils.evil", "keras.src.saving.x", "my_package.layers"]
)
def test_keras_foreign_module_is_found(module):
    assert worst(model(layer("Thing", {}, module))) is Severity.HIGH


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.utils", "get_file"), ("keras.models", "load_model"), ("keras.saving", "load_model"),
        ("keras.config", "enable_unsafe_deserialization"), ("keras.src.utils.file_utils", "get_file"),
        ("keras.models", "model_from_json"), ("keras.layers", "deserialize"), ("keras.saving", "load_weights"),
        ("keras", "custom_object_scope"),
    ],
)  # fmt: skip
def test_keras_loader_function_is_found(module, name):
    assert worst(model(function(module, name))) is Severity.CRITICAL
    assert worst(model(layer(name, {}, module))) is Severity.CRITICAL
    assert worst(model(layer("Fine", {}, None, registered_name=f"x>{name}"))) is Severity.CRITICAL


def keras_file(description: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("config.json", json.dumps(description))
        out.writestr("metadata.json", '{"keras_version": "3.11.0"}')
        out.writestr("model.weights.h5", hdf5())
    return file.getvalue()


def _builtin(name: str, registered: str | None = "function") -> dict[str, object]:
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": registered}


@pytest.mark.parametrize(
    "one",
    [
        _builtin("os.system"),
        _builtin("mine.helpers.run"),
        _builtin("compile"),
        _builtin("relu", "os.system"),
        _builtin("relu", "builtins>exec"),
        _builtin("print"),
        {**_builtin("os.system"), "module": None},
        {**_builtin("x"), "class_name": "os.system"},
        {**_builtin("x"), "class_name": "posix.execv", "module": None},
        {"class_name": "os.system", "config": {"command": "id"}},
        {"class_name": "builtins.eval", "config": {}},
        {"class_name": "function", "config": "os.system"},
        {"class_name": "function", "config": "os.system", "registered_name": "function"},
        layer("Dense", {"activation": _builtin("os.system")}),
        layer("Sequential", {"layers": [layer("Dense", {"kernel_constraint": [_builtin("os.system")]})]}),
    ],
)
def test_keras_name_that_is_no_function_of_keras_is_found_whatever_its_module(one):
    for content in (model(one), hdf5(hdf5_attribute("model_config", model(one))), keras_file(one)):
        found = rules(content) - {"keras-custom-object", "hydra-target"}
        assert (found, worst(content)) == ({"keras-function"}, Severity.CRITICAL)


@pytest.mark.parametrize("name", ["relu", "my_loss", "max", "Custom>my_loss", "my-package>my_loss"])
def test_keras_function_that_names_no_module_is_not_a_finding(name):
    assert scan_bytes(model(_builtin(name))).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras", "utils.get_file"), ("keras", "saving.load_model"), ("keras", "models.load_model"),
        ("keras", "config.enable_unsafe_deserialization"), ("keras.src", "utils.file_utils.get_file"),
        ("tensorflow", "keras.utils.get_file"), ("keras.api", "utils.get_file"),
    ],
)  # fmt: skip
def test_keras_loader_behind_a_dotted_name_is_found(module, name):
    assert worst(model(function(module, name))) is Severity.CRITICAL
    assert worst(model(layer(name, {}, module))) is Severity.CRITICAL


@pytest.mark.parametrize("name", ["layers.Lambda", "src.layers.core.lambda_layer.Lambda", "x>Lambda"])
def test_keras_lambda_behind_a_dotted_name_is_found(name):
    code = {"function": {"class_name": "function", "config": "f"}}
    assert "keras-lambda" in rules(model(layer(name, code, "keras")))


@pytest.mark.parametrize("key", ["function_type", "output_shape_type", "mask_type"])
def test_keras_bytecode_of_old_description_is_found_by_any_of_its_kinds(key):
    assert rules(json.dumps({"config": {"function": ["4wAA"], key: "lambda"}}).encode()) == {"keras-lambda"}


def test_keras_function_outside_layer_modules_is_found():
    assert worst(model(function("keras.models", "clone"))) is Severity.HIGH


def test_keras_disabled_safe_mode_is_found():
    assert "keras-unsafe-mode" in rules(model(layer("Dense", {"arguments": {"safe_mode": False}})))


@pytest.mark.parametrize("key", ["vocabulary", "idf_weights"])
def test_keras_vocabulary_path_is_found(key):
    assert rules(model(layer("StringLookup", {key: "/etc/passwd"}))) == {"keras-file-reference"}


def test_keras_layer_that_loads_other_content_is_found():
    assert worst(model(layer("TorchModuleWrapper", {"module": "gASV"}))) is Severity.CRITICAL
    assert rules(model(layer("TFSMLayer", {"filepath": "/tmp/evil"}))) == {"keras-unsafe-layer"}


def test_keras_custom_layer_is_a_note():
    found = scan_bytes(model(layer("Mine", {}, None, registered_name="my>Mine")))
    assert [one.rule.id for one in found.findings] == ["keras-custom-object"]
    assert found.verdict is Verdict.CLEAN


LAMBDA = model(layer("Lambda", {"function": ["4wAA", None, None], "function_type": "lambda"}))


def test_valid_hdf5_is_clean():
    content = hdf5(hdf5_attribute("model_config", model(layer("Dense"))), children=(hdf5_dims(3, 4) + hdf5_datatype(),))
    found = scan_bytes(content)
    assert (found.verdict, found.formats, found.gaps) == (Verdict.CLEAN, ("HDF5",), ())


def test_keras_model_in_hdf5_attribute_is_checked():
    assert rules(hdf5(hdf5_attribute("model_config", LAMBDA))) == {"keras-lambda"}
    assert rules(hdf5(children=(hdf5_attribute("anything", LAMBDA),))) == {"keras-lambda"}


def test_hdf5_external_link_is_found():
    assert rules(hdf5(hdf5_external_link("w", "/etc/passwd"))) == {"hdf5-other-file"}


def test_hdf5_shape_bomb_is_found():
    assert rules(hdf5(children=(hdf5_dims(2**20, 2**20) + hdf5_datatype() + hdf5_chunked(),))) == {"hdf5-shape-bomb"}
    assert rules(hdf5(children=(hdf5_dims(20, 20) + hdf5_datatype() + hdf5_chunked(),))) == set()


def test_hdf5_unusual_filter_is_found():
    assert rules(hdf5(hdf5_filters(1, 2, 32000))) == set()
    assert rules(hdf5(hdf5_filters(1, 31337))) == {"hdf5-filter"}


def test_bytes_before_and_after_hdf5_are_found():
    content = hdf5()
    assert rules(b"#!/bin/sh\nid\n".ljust(512, b"\0") + content) == {"hdf5-user-block", "program"}
    assert rules(bytes(512) + content) == set()
    assert rules(content + bytes(9000) + b"x") == {"trailing-bytes"}
    assert "zip-polyglot" in rules(content + empty_zip_end())


def test_hdf5_attribute_pickle_is_found():
    payload = b"cos\nsystem\n(S'id'\ntR."
    assert rules(hdf5(hdf5_attribute("PSEUDOATOM", b"object"))) == {"hdf5-pickled-objects"}
    assert worst(hdf5(hdf5_attribute("x", payload))) is Severity.CRITICAL
    assert (
        scan_bytes(hdf5(hdf5_attribute("name", b"N."), hdf5_attribute("TITLE", b"A table."))).verdict is Verdict.CLEAN
    )


def test_malformed_hdf5_object_is_a_gap():
    content = hdf5(children=(hdf5_dims(3),))
    place = content.rindex(b"OHDR")
    assert scan_bytes(content[:place] + b"oops" + content[place + 4 :]).verdict is Verdict.PARTIAL
    assert scan_bytes(content[:60]).verdict is Verdict.PARTIAL
