"""The stage `triton`: the real server, confined, answers by HTTP and gRPC what ONNX Runtime answers, byte for byte."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from buildkit.build.serving import members_of_serving
from buildkit.declare.serve_settings import Serving
from buildkit.declare.stage_file import parse_stage
from buildkit.digest import FileHash
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model, ModelFile
from buildkit.plan.spec import PackServing
from buildkit.running.seccomp import PROFILE
from buildkit.triton.repository import make_repository
from tests.reference.builds import build
from tests.reference.conftest import Project, extract_model
from tests.reference.engine import Podman
from tests.reference.kserve import KINDS, Refused, ask_http, infer_grpc, infer_http
from tests.waiting import wait_until

pytestmark = [pytest.mark.tools, pytest.mark.network]
CONFINED = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=64m,mode=1777",
    "--tmpfs=/dev/shm:rw,nosuid,nodev,noexec,size=256m,mode=1777", "--cap-drop=all", "--user=65529:65529",
    "--security-opt=no-new-privileges", f"--security-opt=seccomp={PROFILE}",
)  # fmt: skip
Infer = Callable[..., dict[str, Any]]


def add(amount: float, columns: int = 4) -> bytes:
    """A model that adds; another amount is another version."""
    shape = ["n", columns]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    node = helper.make_node("Add", ["x", "amount"], ["y"])
    amounts = helper.make_tensor("amount", TensorProto.FLOAT, [1], [amount])
    return onnx.ModelProto.SerializeToString(helper.make_model(helper.make_graph([node], "add", [x], [y], [amounts])))


def every_type() -> bytes:
    """A model that gives back a tensor of each type of KServe's protocol, and a number."""
    named = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in KINDS}
    named["number"] = TensorProto.INT64
    shapes: dict[str, list[Any]] = {name: [] if name == "number" else [2, "n"] for name in named}
    ins = [helper.make_tensor_value_info(name, kind, shapes[name]) for name, kind in named.items()]
    outs = [helper.make_tensor_value_info(f"{name}_out", kind, shapes[name]) for name, kind in named.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in named]
    return onnx.ModelProto.SerializeToString(helper.make_model(helper.make_graph(nodes, "types", ins, outs)))


BYTES = {"one": add(1), "two": add(2), "types": every_type()}
SERVE = """
summary = "s"
[serve]
lock = "models.lock"
backend = "python"
[[serve.model]]
name = "add"
versions = { 1 = "one", 2 = "two" }
policy = { only = [1] }
[[serve.model]]
name = "batched"
versions = { 1 = "one" }
max-batch = 16
batching = { preferred = [8], delay = 50 }
warm-up = {}
[[serve.model]]
name = "kept"
versions = { 1 = "two" }
cache = true
[[serve.model]]
name = "types"
versions = { 1 = "types" }
[[serve.ensemble]]
name = "chain"
step = [
    { model = "batched", input = { x = "IN" }, output = { y = "between" } },
    { model = "batched", input = { x = "between" }, output = { y = "OUT" } },
]
"""


def locked(name: str) -> Model:
    file = ModelFile(path=f"{name}.onnx", sha256=FileHash.of(BYTES[name]), size=len(BYTES[name]), source="")
    return Model(name=name, version="1", source=RepoSource(path="m"), license="", files=(file,))


def write_repository(folder: Path) -> None:
    """Write a repository as its layers have it: folders of versions, and what is made from the graphs."""
    serving = parse_stage(SERVE, name="s", file="stages/s/stage.toml").serve
    assert isinstance(serving, Serving)
    models = {name: locked(name) for name in BYTES}
    made = make_repository(serving, backend="python", file="stages/s/stage.toml", models=models, gpu=None)
    for model in made.models:
        for version in model.folders:
            for path, place in version.places:
                target = folder / model.name / str(version.number) / place
                target.parent.mkdir(parents=True)
                target.write_bytes(BYTES[path.removesuffix(".onnx")])
    for member in members_of_serving(PackServing(repository=made), lambda model: lambda _: iter((BYTES[model.name],))):
        target = folder / member.path.removeprefix("models/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.content is None:
            target.mkdir()
        else:
            target.write_bytes(b"".join(member.content()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server, by the ports of this host."""

    podman: Podman
    name: str

    def port(self, number: int) -> int:
        return int(self.podman("port", self.name, f"{number}/tcp").strip().rpartition(":")[2])

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(self._ready, lambda: self.podman("logs", self.name))

    def _ready(self) -> bool:
        state = self.podman("container", "inspect", "--format={{.State.Status}}", self.name).strip()
        assert state == "running", self.podman("logs", self.name)
        try:
            return ask_http(self.port(8000), "/v2/health/ready")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def image(project: Project, podman: Podman) -> str:
    report = build("triton", project.cache).report
    return str(podman.inspect(f"{report['image']}@{report['digest']}")["Id"])


@pytest.fixture(scope="module")
def server(podman: Podman, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The image's own model, and a repository of small ones, with the secret by which they are loaded."""
    folder, name = tmp_path_factory.mktemp("repository"), f"triton-{secrets.token_hex(6)}"
    folder.chmod(0o755)
    write_repository(folder)
    (folder.parent / "admin").write_text("s3cret\n")
    podman("secret", "create", name, str(folder.parent / "admin"))
    secret = f"--secret={name},target=triton-admin,uid=65529,gid=65529,mode=0400"
    ports = [f"--publish=127.0.0.1::{port}" for port in (8000, 8001, 8002)]
    options = ("--tmpfs=/run/secrets", secret, *ports, f"--volume={folder}:/srv/more:ro")
    try:
        podman("run", "--detach", f"--name={name}", *CONFINED, *options, image, "--model-repository=/srv/more")
        found = Server(podman=podman, name=name)
        found.wait()
        yield found
    finally:
        podman("rm", "--force", "--time=0", "--ignore", name)
        podman("secret", "rm", name)


@pytest.fixture(params=["http", "grpc"])
def infer(request: pytest.FixtureRequest, server: Server) -> Infer:
    ask, number = {"http": (infer_http, 8000), "grpc": (infer_grpc, 8001)}[request.param]
    port = server.port(number)
    return lambda model, given, version="": ask(port, model, given, version)


def test_the_reference_models_answers_are_those_of_onnx_runtime(infer: Infer, project: Project, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(extract_model(project.cache, tmp_path))
    draw = np.random.default_rng(7).standard_normal
    given = {
        "input": draw((9, 576), np.float32) / 8,
        "h": draw((1, 1, 128), np.float32),
        "c": np.zeros((1, 1, 128), np.float32),
    }
    wanted = dict(zip([one.name for one in session.get_outputs()], session.run(None, given), strict=True))
    got = infer("silero-vad", given)
    assert {name: value.shape for name, value in got.items()} == {name: value.shape for name, value in wanted.items()}
    for name, value in wanted.items():
        assert got[name].nbytes > 0
        np.testing.assert_allclose(
            got[name], value, rtol=1e-5, atol=1e-6
        )  # another number of threads may round elsewhere


def test_a_tensor_of_every_type_comes_back_byte_for_byte(infer: Infer) -> None:
    values = np.arange(6).reshape(2, 3)
    given: dict[str, Any] = {name: values.astype(name) for name in KINDS}
    given["number"] = np.array([41], np.int64)
    got = infer("types", given)
    assert set(got) == {f"{name}_out" for name in given}
    for name, value in given.items():
        assert (got[f"{name}_out"] == value).all(), name
        assert got[f"{name}_out"].dtype == value.dtype


def test_requests_that_are_put_together_get_their_own_answers(infer: Infer, server: Server) -> None:
    def ask(number: int) -> None:
        rows = np.full((1 + number % 3, 4), number, np.float32)
        assert (infer("batched", {"x": rows})["y"] == rows + 1).all()

    def executions() -> tuple[int, int]:
        _, found = ask_http(server.port(8000), "/v2/models/batched/stats")
        (stats,) = found["model_stats"]
        return stats["inference_count"], stats["execution_count"]

    before = executions()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(48)))
    after = executions()
    assert after[0] - before[0] > after[1] - before[1], "no two requests were run together"


def test_an_ensemble_hands_tensors_on_and_wrong_requests_are_refused(infer: Infer) -> None:
    rows = np.ones((2, 4), np.float32)
    assert (infer("chain", {"IN": rows})["OUT"] == 3).all()
    for model, given in (
        ("add", {"x": np.ones((2, 5), np.float32)}),
        ("add", {"x": np.ones((2, 4), np.int64)}),
        ("none", {"x": rows}),
    ):
        with pytest.raises(Refused):
            infer(model, given)
    assert (infer("add", {"x": rows})["y"] == 2).all()


def test_answers_are_kept_where_that_is_asked_for(infer: Infer, server: Server) -> None:
    given = {"x": np.full((1, 4), 5, np.float32)}
    assert (infer("kept", given)["y"] == infer("kept", given)["y"]).all()
    _, page = ask_http(server.port(8002), "/metrics")
    hits = next(line for line in page.splitlines() if line.startswith('nv_cache_num_hits_per_model{model="kept"'))
    assert float(hits.rpartition(" ")[2]) >= 1


def test_versions_are_loaded_and_unloaded_while_others_answer(server: Server) -> None:
    port, rows = server.port(8000), np.zeros((1, 4), np.float32)
    key = {"triton-admin": "s3cret"}

    def load(versions: list[int]) -> int:
        _, config = ask_http(port, "/v2/models/add/config")
        config["version_policy"] = {"specific": {"versions": versions}}
        body = {"parameters": {"config": __import__("json").dumps(config)}}
        return ask_http(port, "/v2/repository/models/add/load", body, **key)[0]

    def answers() -> dict[str, float]:
        found = {}
        for version in ("1", "2"):
            try:
                found[version] = float(infer_http(port, "add", {"x": rows}, version)["y"][0, 0])
            except Refused:
                continue
        return found

    assert answers() == {"1": 1.0}
    lost: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        stop = False

        def keep_asking() -> int:
            asked = 0
            while not stop:
                try:
                    assert infer_http(port, "add", {"x": rows}, "1")["y"][0, 0] == 1
                except Refused as error:
                    lost.append(str(error))
                asked += 1
            return asked

        asking = pool.submit(keep_asking)
        try:
            assert load([1, 2]) == 200
            assert answers() == {"1": 1.0, "2": 2.0}
        finally:
            stop = True
        assert asking.result() > 0
    assert lost == []
    assert load([2]) == 200
    assert answers() == {"2": 2.0}
    for headers in ({}, {"triton-admin": "wrong"}):
        assert ask_http(port, "/v2/repository/models/add/unload", {}, **headers)[0] == 403
    assert ask_http(port, "/v2/systemsharedmemory/status")[0] == 403
    assert answers() == {"2": 2.0}
    assert ask_http(port, "/v2/repository/models/add/unload", {}, **key)[0] == 200
    assert ask_http(port, "/v2/health/ready")[0] == 200


def test_without_the_secret_nothing_is_loaded_and_the_server_ends_in_time(podman: Podman, image: str) -> None:
    name = f"triton-{secrets.token_hex(6)}"
    try:
        podman("run", "--detach", f"--name={name}", *CONFINED, "--publish=127.0.0.1::8000", image)
        server = Server(podman=podman, name=name)
        server.wait()
        status, said = ask_http(
            server.port(8000), "/v2/repository/models/silero-vad/unload", {}, **{"triton-admin": ""}
        )
        assert (status, "not allowed" in said["error"]) == (503, True)
        podman("healthcheck", "run", name)
        podman("stop", "--time=30", name)
        assert podman("container", "inspect", "--format={{.State.ExitCode}}", name).strip() == "0"
    finally:
        podman("rm", "--force", "--time=0", "--ignore", name)
