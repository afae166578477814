"""A model of a hub, in an image and in a registry: found offline, given to others, and built from what they get."""

from __future__ import annotations

import base64
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.tools.keys import load_signer
from tests.e2e.tinyproject import Tiny, one_error
from tests.resolve.modelhub import Hub, serve_hub

pytestmark = pytest.mark.tools

WEIGHTS = 9 << 20  # more than `LARGE_MODEL_FILE`
FROM_HUB = '[[model]]\nname = "small"\nsource = "hf:org/name"\nrevision = "v1"\n'


def safetensors(count: int) -> bytes:
    """Return a valid file with one tensor of bytes."""
    head = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return struct.pack("<Q", len(head)) + head + random.Random(1).randbytes(count)


FILES = {"config.json": b'{"kind": "tiny"}', "sub/vocab.txt": b"a b c\n", "model.safetensors": safetensors(WEIGHTS)}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve_hub("org/name") as server:
        server.commit(FILES, "main", "v1")
        yield server


def take(tiny: Tiny, text: str, hub: Hub) -> None:
    """Give a project the models of ``text`` in place of its own, and lock them."""
    tiny.env["HF_ENDPOINT"] = hub.url
    tiny.write("requirements/models.toml", text)
    tiny.lock()


def model_layers(tiny: Tiny) -> dict[str, str]:
    return {name: digest for name, digest in tiny.build("app").digests().items() if name.startswith("models/")}


def push(tiny: Tiny, ref: str, *arguments: str) -> dict[str, Any]:
    """Push the project's only model; return what is said of it."""
    pushed = tiny.run("push-models", ref, "--as", "modelpack", "--json", *arguments)
    assert pushed.code == 0, pushed.text
    (row,) = json.loads(pushed.text[pushed.text.index("[\n") : pushed.text.rindex("]") + 1])
    return row  # type: ignore[no-any-return]


def make_key(folder: Path) -> Path:
    key = folder / "sign.key"
    argv = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    subprocess.run(argv, check=True, capture_output=True)
    return key


LIBRARY = """
from huggingface_hub import hf_hub_download
for path in ("config.json", "sub/vocab.txt", "model.safetensors"):
    first, second = (open(hf_hub_download("org/name", path, revision=name), "rb").read() for name in ("v1", None))
    print(first == second != b"")
"""


def test_a_model_in_a_hubs_cache_is_found_offline_in_the_image(tiny: Tiny, hub: Hub) -> None:
    take(tiny, FROM_HUB, hub)
    hub.asked.clear()
    tiny.write("requirements/models.toml", f'{FROM_HUB}layout = "hf-cache"\n')
    tiny.lock()
    assert not hub.asked
    assert set(model_layers(tiny)) == {"models/small", "models/small/model.safetensors"}
    env = tiny.inspect("app")["Config"]["Env"]
    assert {"HF_HUB_CACHE=/models/hub", "HF_HUB_OFFLINE=1", "GREETING=hello"} <= set(env)
    commit = hub.revisions["v1"]
    repository = "$HF_HUB_CACHE/models--org--name"
    script = f"cat {repository}/snapshots/*/sub/vocab.txt {repository}/refs/main {repository}/refs/v1"
    listed = tiny.run_image("app", "/bin/sh", "-c", script)
    assert listed == f"a b c\n{commit}{commit}"
    archive, image = tiny.folder / "models.tar", tiny.folder / "image"
    image.mkdir()
    tiny.tool("podman", "create", "--name=kept", "localhost/tiny/app")
    tiny.tool("podman", "export", "--output", str(archive), "kept")
    tiny.tool("podman", "rm", "kept")
    tiny.tool("tar", "-xf", str(archive), "-C", str(image), "models")
    env = {**os.environ, "HF_HUB_CACHE": f"{image}/models/hub", "HF_HUB_OFFLINE": "1"}
    found = subprocess.run((sys.executable, "-c", LIBRARY), env=env, check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["True"] * 3
    assert tiny.run("scan-models").code == 0
    audited = tiny.run("audit", "app", "--json")
    assert "models--org--name" not in audited.text


def test_a_pushed_model_is_locked_without_its_weights_and_gives_the_same_layers(
    make_tiny: Callable[[], Tiny], hub: Hub, registry: str
) -> None:
    giver, taker = make_tiny(), make_tiny()
    take(giver, f'{FROM_HUB}license = "MIT"\n', hub)
    layers = model_layers(giver)
    ref = f"{registry}/shared/models"
    row = push(giver, f"{ref}:v1")
    size = sum(map(len, FILES.values()))
    assert (row["model"], row["ref"], row["size"], row["uploaded"]) == ("small", f"{ref}/small:v1", size, size)
    again = giver.run("push-models", f"{ref}/small:v1", "--as", "modelpack", "--model", "small")
    assert f'small: nothing new; source = "oci:{ref}/small@{row["digest"]}"' in again.text
    assert push(giver, f"{ref}/small:v2", "--model", "small")["uploaded"] == 0
    key = make_key(giver.folder)
    assert push(giver, f"{ref}/small:v1", "--model", "small", "--sign-by", str(key))["digest"] == row["digest"]
    signed = giver.tool("skopeo", "inspect", "--raw", f"docker://{ref}/small:{row['digest'].replace(':', '-')}.sig")
    (claim,) = json.loads(signed)["layers"]
    layout = giver.folder / "signature"
    giver.tool("skopeo", "copy", f"docker://{ref}/small:{row['digest'].replace(':', '-')}.sig", f"dir:{layout}")
    data = (layout / claim["digest"].removeprefix("sha256:")).read_bytes()
    signature = base64.b64decode(claim["annotations"]["dev.cosignproject.cosign/signature"])
    assert load_signer(key, "").public.verify(data, signature)
    assert json.loads(data)["critical"]["image"]["docker-manifest-digest"] == row["digest"]
    slip = giver.run("push-models", ref, "--as", "modelpack", "--model", "sma")
    assert "did you mean `small`" in one_error(slip, 2)

    taker.write("requirements/models.toml", f'[[model]]\nname = "small"\nsource = "oci:{ref}/small:v1"\n')
    taker.lock()
    lock = (taker.project / "requirements/models.lock").read_text()
    assert f'version = "{row["digest"]}"' in lock
    assert model_layers(taker) == layers
    assert taker.lock().text.count("small") <= giver.lock().text.count("small")  # locked once
    assert taker.run("lock", "--check").code == 0


def test_a_model_image_of_another_builder_is_a_model(tiny: Tiny, registry: str, tmp_path: Path) -> None:
    (tmp_path / "models/sub").mkdir(parents=True)
    (tmp_path / "models/config.json").write_text("{}")
    (tmp_path / "models/sub/words.txt").write_text("a\n")
    ref = f"{registry}/shared/car:v1"
    made = tiny.tool("buildah", "from", "scratch").strip()
    tiny.tool("buildah", "copy", made, str(tmp_path / "models"), "/models")
    tiny.tool("buildah", "commit", "--rm", made, f"docker://{ref}")
    tiny.write("requirements/models.toml", f'[[model]]\nname = "car"\nsource = "oci:{ref}"\n')
    tiny.lock()
    assert set(model_layers(tiny)) == {"models/car"}
    assert tiny.run_image("app", "/bin/sh", "-c", "cat /models/car/config.json /models/car/sub/words.txt") == "{}a\n"
    assert not tiny.left_over()


def test_what_the_scan_refuses_is_given_to_nobody(tiny: Tiny, registry: str) -> None:
    tiny.write("models/greeter/bad.pkl", "cos\nsystem\n(S'id'\ntR.")
    tiny.lock()
    ref = f"{registry}/shared/bad"
    refused = one_error(tiny.run("push-models", f"{ref}:v1", "--as", "modelpack"), 1)
    assert "bad.pkl: refused" in refused
    tiny.tool("skopeo", "inspect", "--tls-verify=false", f"docker://{ref}/greeter:v1", code=1)
