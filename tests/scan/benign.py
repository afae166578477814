"""Harmless model files by real libraries: ``python benign.py FOLDER`` writes those of installed libraries."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.scan import benign_tables


def with_library(*names: str) -> list[Any] | None:
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError:
        return None


def make_plain(out: Path) -> None:
    from datetime import date, datetime, timedelta, timezone
    from decimal import Decimal
    from fractions import Fraction
    from pathlib import PurePosixPath
    from uuid import UUID

    values: dict[str, object] = {
        "numbers": [1, 2.5, -(10**40), 1 + 2j, True, None],
        "texts": {"vocab": ["the", "c os", "posix\nsystem", "\udcff", "日本"], "blob": b"\x80\x04." * 9},
        "collections": [OrderedDict(a=1), Counter("abc"), defaultdict(list, {"a": [1]}), deque([1, 2]), {1}, slice(1)],
        "times": [datetime(2026, 1, 1, tzinfo=timezone.utc), date(2026, 1, 1), timedelta(1)],  # noqa: UP017
        "others": [Decimal("1.5"), Fraction(1, 3), UUID(int=7), range(9), bytearray(b"x"), PurePosixPath("a/b")],
    }
    for name, value in values.items():
        for protocol in (0, 2, 5):
            (out / f"plain-{name}-{protocol}.pkl").write_bytes(pickle.dumps(value, protocol))
    (out / "config.json").write_text(json.dumps({"hidden_size": 8, "architectures": ["BertModel"]}))
    (out / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "chat_template": "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim }}"
                "{% if not loop.last %}\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
            }
        )
    )
    (out / "vocab.txt").write_text("[UNK]\n[CLS]\nos.system\n__import__\n")
    (out / "README.md").write_text("# A model\n\n```python\nimport os\nos.system('ls')\n```\n")


def make_numpy(out: Path) -> None:
    np: Any
    (np,) = with_library("numpy") or [None]
    arrays = {
        "f4": np.arange(6, dtype="f4").reshape(2, 3),
        "i8": np.arange(9),
        "u1": np.zeros((4, 4), "u1"),
        "bool": np.array([True, False]),
        "c8": np.array([1j], "c8"),
        "str": np.array(["a", "bc"]),
        "time": np.array(["2026-01-01"], "M8[D]"),
        "record": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        "object": np.array([{"a": 1}, None, "x"], dtype=object),
        "fortran": np.asfortranarray(np.ones((3, 2))),
        "empty": np.zeros((0, 5)),
    }
    for name, array in arrays.items():
        np.save(out / f"numpy-{name}.npy", array, allow_pickle=True)
        (out / f"numpy-{name}.pkl").write_bytes(pickle.dumps(array, 4))
    (out / "numpy-2.pkl").write_bytes(pickle.dumps(arrays, 2))
    np.savez(out / "numpy.npz", **arrays)
    np.savez_compressed(out / "numpy-compressed.npz", **arrays)
    (out / "numpy-rng.pkl").write_bytes(pickle.dumps(np.random.default_rng(1)))
    (out / "numpy-scalars.pkl").write_bytes(pickle.dumps([np.float32(1), np.int64(2), np.dtype("f4"), np.bool_(1)]))


def make_joblib(out: Path) -> None:
    np: Any
    joblib: Any
    np, joblib = with_library("numpy", "joblib") or [None, None]
    value = {"w": np.arange(3000.0), "n": [1, "a"], "m": np.ones((5, 5), "f4", order="F")}
    for how in (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)):
        joblib.dump(value, out / f"joblib-{how[0] if how else 'plain'}.joblib", compress=how)
    if with_library("lz4"):
        joblib.dump(value, out / "joblib-lz4.joblib", compress=("lz4", 3))


def make_torch(out: Path) -> None:
    torch: Any
    (torch,) = with_library("torch") or [None]
    nn = torch.nn
    nets = {
        "linear": nn.Linear(3, 2),
        "conv": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()),
        "lstm": nn.LSTM(3, 4, 2),
        "attention": nn.TransformerEncoderLayer(8, 2, 16),
        "embedding": nn.Embedding(5, 3),
    }
    for name, net in nets.items():
        torch.save(net.state_dict(), out / f"torch-{name}.pt")
    state = nets["linear"].state_dict()
    torch.save(state, out / "torch-legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(state, out / "torch-2.pt", pickle_protocol=4)
    kinds = (torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64, torch.float64)
    for kind in kinds:
        torch.save(torch.ones(3, dtype=kind), out / f"torch-{str(kind).rpartition('.')[2]}.pt")
    for optimiser in (torch.optim.SGD, torch.optim.AdamW):
        made = optimiser(nets["linear"].parameters(), lr=0.1)
        nets["linear"](torch.ones(1, 3)).sum().backward()
        made.step()
        checkpoint = {"epoch": 3, "model": state, "optimiser": made.state_dict(), "args": {"lr": 0.1}, "loss": [0.5]}
        torch.save(checkpoint, out / f"torch-checkpoint-{optimiser.__name__}.ckpt")
    torch.save(torch.nn.Parameter(torch.ones(2)), out / "torch-parameter.pt")
    torch.save(torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (3,)), out / "torch-sparse.pt")
    torch.save([torch.Size([1, 2]), torch.device("cpu"), torch.float32], out / "torch-things.pt")
    torch.save(torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), out / "torch-quantized.pt")
    torch.save({}, out / "torch-empty.pt")


def make_sklearn(out: Path) -> None:
    np: Any
    np, *_ = with_library("numpy", "sklearn", "joblib") or [None]
    import joblib
    from sklearn import (
        cluster,
        compose,
        decomposition,
        ensemble,
        impute,
        linear_model,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
        tree,
    )
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    rng = np.random.default_rng(0)
    x, y = rng.random((60, 4)), rng.integers(0, 2, 60)
    models = [
        linear_model.LogisticRegression(), linear_model.LinearRegression(), linear_model.SGDClassifier(),
        linear_model.Ridge(), svm.SVC(), svm.LinearSVC(), tree.DecisionTreeClassifier(),
        ensemble.RandomForestClassifier(5), ensemble.GradientBoostingClassifier(n_estimators=5),
        ensemble.HistGradientBoostingClassifier(max_iter=5), ensemble.IsolationForest(n_estimators=5),
        neighbors.KNeighborsClassifier(3), naive_bayes.GaussianNB(), neural_network.MLPClassifier((4,), max_iter=5),
        cluster.KMeans(2, n_init=1), decomposition.PCA(2), preprocessing.StandardScaler(), preprocessing.MinMaxScaler(),
        impute.SimpleImputer(), preprocessing.OneHotEncoder(),
        pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
        compose.ColumnTransformer([("s", preprocessing.StandardScaler(), [0, 1])]),
    ]  # fmt: skip
    for model in models:
        name = type(model).__name__
        fitted = model.fit(x, y)
        (out / f"sklearn-{name}.pkl").write_bytes(pickle.dumps(fitted))
        joblib.dump(fitted, out / f"sklearn-{name}.joblib", compress=3)
    for model in (CountVectorizer(), TfidfVectorizer()):
        fitted = model.fit(["a cat", "the dog sat"])
        (out / f"sklearn-{type(model).__name__}.pkl").write_bytes(pickle.dumps(fitted))


def make_scipy(out: Path) -> None:
    with_library("scipy")
    from scipy import sparse

    for kind in ("csr", "csc", "coo", "lil", "dok", "dia"):
        matrix = sparse.eye(5, format=kind)
        (out / f"scipy-{kind}.pkl").write_bytes(pickle.dumps(matrix))
    sparse.save_npz(out / "scipy.npz", sparse.eye(5, format="csr"))


def make_safetensors(out: Path) -> None:
    np: Any
    np, *_ = with_library("numpy", "safetensors.numpy") or [None]
    from safetensors.numpy import save_file

    save_file({"w": np.ones((2, 3), "f4"), "b": np.zeros(3, "f2")}, out / "safetensors.safetensors")
    save_file({"w": np.ones(1)}, out / "safetensors-said.safetensors", metadata={"format": "pt", "licence": "MIT"})
    save_file({}, out / "safetensors-empty.safetensors")


def make_onnx(out: Path) -> None:
    np: Any
    onnx: Any
    np, onnx = with_library("numpy", "onnx") or [None, None]
    h, f = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), "f4"), "w")
    ends = [h.make_tensor_value_info("x", f, [1, 3])], [h.make_tensor_value_info("y", f, [1, 2])]
    graph = h.make_graph([h.make_node("MatMul", ["x", "w"], ["y"])], "g", *ends, [weight])
    model = h.make_model(graph, producer_name="tests")
    onnx.save(model, out / "onnx.onnx")
    onnx.save(model, out / "onnx-outside.onnx", save_as_external_data=True, location="onnx.data", size_threshold=0)
    if with_library("skl2onnx", "sklearn"):
        from skl2onnx import to_onnx
        from sklearn.ensemble import RandomForestClassifier

        x = np.random.default_rng(0).random((30, 3)).astype("f4")
        made = to_onnx(RandomForestClassifier(3).fit(x, x[:, 0] > 0.5), x[:1])
        (out / "onnx-forest.onnx").write_bytes(made.SerializeToString())


def make_keras(out: Path) -> None:
    keras: Any
    (keras,) = with_library("keras") or [None]
    layers = keras.layers
    nets = {
        "dense": keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(1)]),
        "conv": keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]),
        "text": keras.Sequential([keras.Input((5,)), layers.Embedding(9, 4), layers.LSTM(3), layers.Dropout(0.1)]),
    }
    for name, net in nets.items():
        net.compile("adam", "mse")
        net.save(out / f"keras-{name}.keras")
        net.save(out / f"keras-{name}.h5")
        net.save_weights(out / f"keras-{name}.weights.h5")
        (out / f"keras-{name}.json").write_text(net.to_json())


def make_h5py(out: Path) -> None:
    np: Any
    h5py: Any
    np, h5py = with_library("numpy", "h5py") or [None, None]
    for version in ("earliest", "latest"):
        with h5py.File(out / f"h5py-{version}.h5", "w", libver=version) as file:
            file.create_dataset("a/b", data=np.arange(50.0), chunks=(10,), compression="gzip")
            file["c"] = "text"
            file.attrs["said"] = [1, 2]


def make_tensorflow(out: Path) -> None:
    tf: Any
    (tf,) = with_library("tensorflow") or [None]

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable([[1.0], [2.0]])

        @tf.function(input_signature=[tf.TensorSpec([None, 2])])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return tf.nn.relu(x @ self.w)

    net = Net()
    tf.saved_model.save(net, str(out / "tensorflow"))
    made = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
    (out / "tensorflow.tflite").write_bytes(made.convert())
    tf.train.Checkpoint(w=net.w).save(str(out / "tf-checkpoint"))


def make_gguf(out: Path) -> None:
    np: Any
    gguf: Any
    np, gguf = with_library("numpy", "gguf") or [None, None]
    writer = gguf.GGUFWriter(out / "gguf.gguf", "llama")
    writer.add_name("tests")
    writer.add_context_length(32)
    writer.add_token_list(["a", "b"])
    writer.add_chat_template("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}")
    writer.add_tensor("w", np.ones((4, 8), "f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_tokenizers(out: Path) -> None:
    with_library("tokenizers")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(["a cat sat", "import os; os.system('ls')"], trainers.BpeTrainer(vocab_size=60))
    made.save(str(out / "tokenizer.json"))


LIBRARIES: dict[str, tuple[tuple[str, ...], Callable[[Path], None]]] = {
    "plain": ((), make_plain),
    "numpy": (("numpy",), make_numpy),
    "joblib": (("numpy", "joblib"), make_joblib),
    "torch": (("torch",), make_torch),
    "sklearn": (("sklearn", "joblib"), make_sklearn),
    "scipy": (("scipy",), make_scipy),
    "safetensors": (("safetensors",), make_safetensors),
    "onnx": (("onnx",), make_onnx),
    "h5py": (("h5py",), make_h5py),
    "tensorflow": (("tensorflow",), make_tensorflow),
    "keras": (("keras",), make_keras),
    "gguf": (("gguf",), make_gguf),
    "tokenizers": (("tokenizers",), make_tokenizers),
    **benign_tables.LIBRARIES,
}


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, (needed, make) in LIBRARIES.items():
        if needed and with_library(*needed) is None:
            print(f"{name}: not installed")
            continue
        make(out)
        print(f"{name}: {sum(path.is_file() for path in out.rglob('*'))} files so far")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
