"""Make the samples in this folder with the real libraries: `python make.py`, in an environment that has some of them.

``ok-NAME.gz`` is clean; ``bad--RULE--NAME.gz`` has a finding of that rule. Nothing here is loaded by a test.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
LAMBDA = {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None], "function_type": "lambda"}}
DENSE = {
    "class_name": "Sequential",
    "config": {"layers": [{"class_name": "Dense", "module": "keras.layers", "config": {}}]},
}
EVIL = "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"
CHAT = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"


def keep(name: str, content: bytes | Path) -> None:
    data = content.read_bytes() if isinstance(content, Path) else content
    (HERE / f"{name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))


def make_hdf5(folder: Path) -> None:  # noqa: C901 -- one function a sample
    import h5py
    import numpy as np

    def one(name: str, fill: Callable[[h5py.File], object], **options: object) -> None:
        path = folder / "x.h5"
        with h5py.File(path, "w", **options) as file:
            fill(file)
        keep(name, path)

    def many(file: h5py.File, config: object) -> None:
        for number in range(60):
            file.create_group(f"layers/g{number}")
            file.attrs[f"a{number}"] = "x" * number
        file.attrs["model_config"] = json.dumps(config)
        file["layers"].attrs["names"] = np.array([b"abc", b"def"])
        file.create_dataset("layers/k", data=np.zeros((30, 30)), compression="gzip", chunks=(10, 10))
        file["soft"] = h5py.SoftLink("/layers/k")
        file["type"] = np.dtype([("a", "f4"), ("b", "i4")])

    def linked(file: h5py.File) -> None:
        for number in range(40):
            file.create_group(f"g{number}")
        file["g5/w"] = h5py.ExternalLink("/etc/passwd", "/x")
        file.attrs["x"] = 1

    def external(file: h5py.File) -> None:
        file.create_dataset("d", (10,), dtype="u1", external=[("/etc/passwd", 0, 10)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((10,), "u1")
        layout[:] = h5py.VirtualSource("/etc/other.h5", "d", shape=(10,))
        file.create_virtual_dataset("v", layout)

    def bomb(file: h5py.File) -> None:
        file.create_dataset("d", (10**6, 10**6), dtype="f8", chunks=(100, 100), compression="gzip")

    def large(file: h5py.File) -> None:
        for number in range(10):
            file.attrs[f"a{number}"] = number
        file.attrs["model_config"] = np.bytes_(json.dumps({**LAMBDA, "pad": "y" * 100_000}).encode())

    for version in ("earliest", "latest"):
        one(f"ok-hdf5-{version}", lambda file: many(file, DENSE), libver=version)
        one(f"bad--keras-lambda--hdf5-{version}", lambda file: many(file, LAMBDA), libver=version)
        one(f"bad--hdf5-other-file--link-{version}", linked, libver=version)
        one(f"bad--hdf5-other-file--storage-{version}", external, libver=version)
        one(f"bad--hdf5-other-file--virtual-{version}", virtual, libver=version)
        one(f"bad--hdf5-shape-bomb--{version}", bomb, libver=version)
    one("bad--keras-lambda--hdf5-large", large, libver="latest")
    one("bad--keras-lambda--hdf5-bytes", lambda file: file.attrs.update(model_config=json.dumps(LAMBDA).encode()))


def make_onnx(folder: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def one(name: str, *nodes: onnx.NodeProto, dtype: type = np.float32, **options: object) -> None:
        x, y = (helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, 3]) for key in "xy")
        weights = numpy_helper.from_array(np.ones((1, 3), dtype), "w")
        made = helper.make_model(
            helper.make_graph(nodes, "g", [x], [y], [weights]),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)],
            **options,
        )
        keep(name, made.SerializeToString())

    add = helper.make_node("Add", ["x", "w"], ["y"])
    for dtype in (np.float32, np.float16, np.int8, np.bool_, np.complex64, np.int64):
        one(f"ok-onnx-{dtype.__name__}", add, dtype=dtype)
    relu = helper.make_node("Relu", ["a"], ["b"])
    function = helper.make_function("mine", "F", ["a"], ["b"], [relu], [helper.make_opsetid("", 17)])
    one("ok-onnx-function", helper.make_node("F", ["x"], ["y"], domain="mine"), functions=[function])
    inner = helper.make_graph([helper.make_node("Evil", ["x"], ["z"], domain="evil")], "t", [], [])
    branches = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    one("bad--onnx-custom-domain--branch", branches)
    model = onnx.load_from_string(gzip.decompress((HERE / "ok-onnx-float32.gz").read_bytes()))
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    keep("ok-onnx-external", folder / "m.onnx")
    content = (folder / "m.onnx").read_bytes()
    keep("bad--onnx-external-path--up", content.replace(b"w.data", b"../../"))


def make_keras(folder: Path) -> None:
    import keras
    from keras import layers

    def one(name: str, model: keras.Model) -> None:
        model.save(folder / "m.keras")
        keep(f"{name}-v3", folder / "m.keras")
        model.save(folder / "m.h5")
        keep(f"{name}-h5", folder / "m.h5")

    dense = layers.Dense(4, activation="relu", kernel_regularizer=keras.regularizers.L2(0.1))
    plain = keras.Sequential([layers.Input((8,)), dense, layers.BatchNormalization(), layers.Dense(2)])
    plain.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    one("ok-keras-sequential", plain)
    picture = layers.Input((8, 8, 3))
    inner = layers.Flatten()(layers.MaxPooling2D()(layers.Conv2D(2, 3)(picture)))
    functional = keras.Model(picture, layers.Add()([inner, keras.ops.relu(inner)]))
    functional.compile(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)), "mse")
    one("ok-keras-functional", functional)
    words = layers.Input((5,), dtype="int32")
    one("ok-keras-recurrent", keras.Model(words, layers.Bidirectional(layers.LSTM(2))(layers.Embedding(9, 3)(words))))
    some = layers.Input((5, 4))
    one(
        "ok-keras-attention",
        keras.Model(some, layers.LayerNormalization()(layers.MultiHeadAttention(2, 2)(some, some))),
    )
    one("bad--keras-lambda--keras", keras.Sequential([layers.Input((8,)), layers.Lambda(lambda x: x * 2)]))
    plain.save_weights(folder / "m.weights.h5")
    keep("ok-keras-weights", folder / "m.weights.h5")


def make_pandas(folder: Path) -> None:
    import pandas as pd

    for name, column in (("ok-pandas", [1, 2]), ("bad--hdf5-pickled-objects--pandas", [{"x": 1}, [2]])):
        pd.DataFrame({"a": column, "b": [1.0, 2.0]}).to_hdf(folder / f"{name}.h5", key="df")
        keep(name, folder / f"{name}.h5")


def make_gguf(folder: Path) -> None:
    import gguf
    import numpy as np

    for name, template in (("ok-gguf", CHAT), ("bad--jinja-escape--gguf", EVIL)):
        writer = gguf.GGUFWriter(folder / "m.gguf", "llama")
        writer.add_context_length(128)
        writer.add_chat_template(template)
        writer.add_token_list(["a", "b", "{{", "{%"] * 50)
        writer.add_array("numbers", [1, 2, 3])
        writer.add_tensor("a", np.zeros((8, 32), np.float32))
        writer.add_tensor("b", np.zeros((7, 3), np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        keep(name, folder / "m.gguf")


def make_tables(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    class Pickled(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.int64(), "arrow.py_extension_type")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"\x80\x04."

    tables = {"ok": pa.table({"a": [1, 2], "b": ["x", "y"]})}
    column = pa.ExtensionArray.from_storage(Pickled(), pa.array([1, 2]))
    tables["bad--arrow-python-type-"] = pa.table({"a": column})
    for name, table in tables.items():
        pyarrow.parquet.write_table(table, folder / "t.parquet")
        keep(f"{name}-parquet", folder / "t.parquet")
        pyarrow.feather.write_feather(table, folder / "t.feather")
        keep(f"{name}-feather", folder / "t.feather")
        with pa.ipc.new_stream(folder / "t.arrow", table.schema) as stream:
            stream.write_table(table)
        keep(f"{name}-arrow-stream", folder / "t.arrow")


def make_others(folder: Path) -> None:
    import lightgbm
    import msgpack
    import numpy as np
    import sentencepiece
    import xgboost

    written = io.BytesIO()
    sentences = iter(["hello world this is a test of pieces and more"] * 100)
    trainer = sentencepiece.SentencePieceTrainer
    options = {"vocab_size": 30, "hard_vocab_limit": False, "normalization_rule_name": "identity"}
    trainer.train(sentence_iterator=sentences, model_writer=written, **options)
    keep("ok-sentencepiece", written.getvalue())
    random = np.random.default_rng(1)
    inputs, labels = random.random((50, 4)), random.integers(0, 2, 50)
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(inputs, labels), 3)
    for kind in ("json", "ubj"):
        booster.save_model(folder / f"m.{kind}")
        keep(f"ok-xgboost-{kind}", folder / f"m.{kind}")
    data = lightgbm.Dataset(inputs, labels)
    keep("ok-lightgbm", lightgbm.train({"verbose": -1, "num_leaves": 4}, data, 3).model_to_string().encode())
    array = msgpack.ExtType(1, msgpack.packb(((2, 3), "float32", bytes(24))))
    keep("ok-flax", msgpack.packb({"params": {"Dense_0": {"kernel": array}}}))


def make_tensorflow(folder: Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self, act: Callable[[tf.Tensor], tf.Tensor]) -> None:
            super().__init__()
            self.weight, self.act = tf.Variable([1.0, 2.0]), act

        @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)])
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            return self.act(x) * self.weight

    def read(x: tf.Tensor) -> tf.Tensor:
        return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)

    def write(x: tf.Tensor) -> tf.Tensor:
        tf.io.write_file("/tmp/x", "y")
        return x

    def python(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.numpy_function(lambda a: a, [x], tf.float32), [2])

    acts = {"ok-tensorflow": tf.identity, "bad--tensorflow-file-op--read": read,
            "bad--tensorflow-file-op--write": write, "bad--tensorflow-python-op--python": python}  # fmt: skip
    for name, act in acts.items():
        model = Model(act)
        tf.saved_model.save(model, str(folder / name))
        keep(f"{name}-saved-model", folder / name / "saved_model.pb")
        concrete = model.__call__.get_concrete_function()
        keep(f"{name}-graph", concrete.graph.as_graph_def().SerializeToString())
        tf.io.write_graph(concrete.graph.as_graph_def(), str(folder), "graph.pbtxt")
        keep(f"{name}-graph-text", folder / "graph.pbtxt")
        if act in (tf.identity, read):
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
            keep(f"{name}-lite", converter.convert())
    keep("ok-tensorflow-fingerprint", folder / "ok-tensorflow" / "fingerprint.pb")
    keep("ok-tensorflow-index", folder / "ok-tensorflow" / "variables" / "variables.index")


if __name__ == "__main__":
    for made in (make_hdf5, make_onnx, make_keras, make_pandas, make_gguf, make_tables, make_others, make_tensorflow):
        with tempfile.TemporaryDirectory() as place:
            try:
                made(Path(place))
            except ImportError as error:
                print(f"{made.__name__}: {error}", file=sys.stderr)
