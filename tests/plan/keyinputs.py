"""Every input of a project, and the layers that a change of it affects.

Mutations are called by the place in a file that they change, where they change one: every place that a file may have
is named here (the test of keys holds that).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keymutations import (
    Belongs,
    Mutate,
    apt_step,
    artifact,
    both,
    both_changes,
    by_package,
    compiled,
    copied,
    derived,
    do,
    file,
    first_wheel,
    framework,
    holding,
    model,
    model_file,
    models,
    moved,
    named_step,
    none,
    pin,
    prefix,
    put,
    python,
    regrouped,
    root,
    setting,
    step,
    user,
    weights,
    wheels,
)
from planfakes import python_archive
from projectdisk import Seen
from smallproject import APP, BASE, BUILDER, DEPS, HEAVY, LARGE, OWN, File, Small, sha, wheel

from buildkit.declare.target import Target
from buildkit.locks.python_lock import PYTHON_LOCK, render_python_lock
from buildkit.plan.spec import PackSbom


def _rename_lock(small: Small) -> None:
    small.wheels["requirements/renamed.txt"] = small.wheels.pop(DEPS)
    small.stages["deps"]["wheels"]["locks"] = ["requirements/renamed.txt"]


def _choose(key: str, value: object) -> Mutate:
    """The same files, chosen from the lock of another tool; the repository's own package is then in its own layer."""

    def change(small: Small) -> None:
        small.wheels["uv.lock"] = small.wheels.pop(DEPS)
        small.stages["deps"]["wheels"] = {"locks": ["uv.lock"], key: value}

    return do(change, regrouped)


def _prefer_heavy(small: Small) -> None:
    if "wheels" in small.stages["runtime"]:
        small.stages["runtime"]["wheels"]["prefer"] = [small.wheels[OWN][1]["name"]]


def _second_builder(small: Small) -> None:
    small.stages["maker"] = small.copy().stages["builder"]
    small.settings["builder"] = "maker"


def _rename_local(small: Small) -> None:
    (entry,) = small.artifacts("local")
    entry["path"] = "./libs/other"


def _cross_heavy(small: Small) -> None:
    for entry in small.artifacts(small.wheels[DEPS][0]["name"]):
        entry["size"] = 1 if entry["size"] >= HEAVY else HEAVY


def _cross_large(small: Small) -> None:
    first = small.models[0]["file"][0]
    first["size"] = 2 if first["size"] >= LARGE else LARGE


def _grow_a_little(small: Small) -> None:
    for entry in (*small.artifacts(small.wheels[DEPS][0]["name"]), small.models[0]["file"][0]):
        entry["size"] += 1 if entry["size"] not in (HEAVY - 1, LARGE - 1) else -1


def _flip_bytecode(small: Small) -> None:
    small.settings["bytecode"] = not small.settings.get("bytecode", True)


def _bytecode_root(small: Small) -> Belongs:
    small.settings["bytecode-root"] = "builder"
    return none if by_package(small) or not small.settings.get("bytecode", True) else wheels


def _python(small: Small) -> Belongs:
    small.apts[BASE]["python3.13"] = "3.13.6-1"
    return both(root, wheels) if small.settings.get("bytecode", True) and by_package(small) else root


def _served(where: str, value: object) -> Mutate:
    """A stage that serves a model, with one more setting: its layers are new, and no other moves."""

    def change(small: Small) -> None:
        step = {"model": "m", "input": {"x": "IN"}, "output": {"y": "OUT"}}
        table: dict[str, Any] = {
            "lock": "requirements/models.lock",
            "model": [{"name": "m", "versions": {"1": "own"}, "file": "w.bin", "max-batch": 8}],
            "ensemble": [{"name": "e", "step": [step]}],
        }
        small.files["serving/text"] = File('output { name: "y" data_type: TYPE_FP32 dims: 1 }', "file")
        small.stages["served"] = {"summary": "served", "serve": table}
        *path, key = where.split(".")
        at: Any = table
        for part in path:
            at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
        if key in ("config", "script"):
            at.pop("max-batch")
            at["config"] = "serving/text"
            at["versions"] = {} if key == "script" else at["versions"]
        at[key] = value

    return do(change, lambda seen, _: {name for name in seen.specs if name.startswith("served/")})


def _tuned(key: str, value: object) -> Mutate:
    """A setting of a framework; one that the project did not have comes with the framework's wheel."""

    def change(small: Small) -> None:
        name, _, setting = key.rpartition(".")
        table = small.stages["runtime"].setdefault("framework", {})
        if name and name not in table:
            small.wheels[DEPS].append(wheel(name, "2.13.0", 5))
            table = table.setdefault(name, {})
        assert table.get(setting) != value
        table[setting] = value

    return do(change, both(regrouped, framework) if "." in key else framework)


def _components(small: Small) -> None:
    small.root["components"] = [*small.root.get("components", ["main"]), "non-free"]


_SOURCE = {"uri": "https://vendor.example/debian", "suite": "/", "key": "vendor.asc"}
_ARMORED = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDM=\n-----END PGP PUBLIC KEY BLOCK-----\n"


def _with_source(key: str = "", value: object = None) -> Mutate:
    """A further archive, of which one setting may be another."""
    source = _SOURCE | ({key: value} if key else {})
    keys = [file(path, _ARMORED, "file", none) for path in ("vendor.asc", "other.asc")]
    return both_changes(keys[0], both_changes(keys[1], put("base.root.source", [source], root)))


_STANDALONE = both_changes(
    both_changes(
        file(
            PYTHON_LOCK,
            render_python_lock((python_archive(),), Target(python="3.13.9", glibc="", arch="")),
            "file",
            none,
        ),
        setting("python", "3.13.9", none),
    ),
    setting("interpreter", "standalone", both(prefix, wheels, python)),
)


DEBIAN: dict[str, Mutate] = {
    "root.suite": put("base.root.suite", "sid", root),
    "root.packages: the same list by another name": put("base.root.packages", "requirements/other.apt", none),
    "root.variant": put("base.root.variant", "essential", root),
    "root.components": do(_components, root),
    "root.exclude": put("base.root.exclude", ["usr/share/doc/**"], root),
    "root.exclude-file": both_changes(
        file("stages/base/kept.txt", "usr/share/info/**\n", "file", none),
        put("base.root.exclude-file", "kept.txt", root),
    ),
    "root.snapshot": put("base.root.snapshot", "2026-11-20T00:00:00Z", root),
    "root.key": both_changes(file("own.asc", _ARMORED, "file", none), put("base.root.key", "own.asc", root)),
    "root.source[].uri": _with_source(),
    "root.source[].suite": _with_source("suite", "amd64/"),
    "root.source[].components": both_changes(
        _with_source(), put("base.root.source", [{**_SOURCE, "suite": "x", "components": ["main"]}], root)
    ),
    "root.source[].key": _with_source("key", "other.asc"),
    "root.drop-setuid": do(lambda p: p.root.update({"drop-setuid": not p.root.get("drop-setuid", False)}), root),
    "root.user[].name": user("name", "other"),
    "root.user[].uid": user("uid", 60001),
    "root.user[].gid": user("gid", 60002),
    "root.user[].home": user("home", "/home/elsewhere"),
    "root.user[].shell": user("shell", "/bin/false"),
    "root.user[]: one more": do(lambda p: p.root.setdefault("user", []).append({"name": "new", "uid": 60003}), root),
    "apt.packages: the same list by another name": put("builder.apt.packages", "requirements/other.apt", none),
    "a package's version": pin(BASE, "libc6", "2.0", root),
    "a package more": pin(BASE, "curl", "8", root),
    "a package gone": pin(BASE, "zlib1g", None, root),
    "Python's version": _python,
    "a package's version on top": pin(BUILDER, "gcc", "2:14", apt_step),
    "a package more on top": pin(BUILDER, "make", "4", apt_step),
}


def _containerfile(**more: object) -> Mutate:
    """The image as the base of a Containerfile, of which one setting may be another."""

    def change(small: Small) -> None:
        image = f"docker.io/x/y@sha256:{sha('base')}"
        small.files["docker/base"] = File(f"ARG X\nFROM {image} AS one\nCOPY weights /w\nFROM one AS two\nRUN true\n")
        small.stages["base"]["root"] = {"containerfile": "docker/base", **more}

    return do(change, root)


IMAGE: dict[str, Mutate] = {
    "root.containerfile": _containerfile(),
    "root.context": _containerfile(context="."),
    "root.target": _containerfile(target="one"),
    "root.args": _containerfile(args={"X": "1"}),
    "root.network": _containerfile(network=True),
    "root.secrets": _containerfile(secrets=["token"]),
    "root.image": put("base.root.image", f"docker.io/x/y:1@sha256:{sha('other')}", root),
    "root.image: by name": put("base.root.image", "docker.io/x/y:2", root),
}
STAGES: dict[str, Mutate] = {
    "summary": put("runtime.summary", "something else", none),
    "from": put("runtime.from", "builder", none),
    "include": put("runtime.include", ["deps"], none),
    "ships": put("runtime.ships", True, none),
    "sbom": put("runtime.sbom", True, lambda seen, _: seen.where(lambda spec: isinstance(spec.work, PackSbom))),
    "run[].name": put("builder.run.0.name", "get ready", none),
    "run[].command": do(lambda p: (p.step.pop("script", ""), p.step.update(command=["/bin/other"])), step),
    "run[].script": do(lambda p: (p.step.pop("command", ""), p.step.update(script="something else")), step),
    "run[].network": put("builder.run.0.network", True, step),
    "run[].env: another value": do(lambda p: p.step["env"].update({min(p.step["env"]): "another"}), step),
    "run[].env: one more": do(lambda p: p.step["env"].update({"MORE": ""}), step),
    "run[].env: none": do(lambda p: p.step.pop("env"), step),
    "run[].secrets": put("builder.run.0.secrets", ["token"], step),
    "run[].mount[].source: other content": put("builder.run.0.mount.0.source", "libs/local", step),
    "run[].mount[].source: the same content": moved(
        "#tools/data", "toys/data", moved("#tools/t.sh", "toys/t.sh", do(lambda p: _mount(p, "toys"), none))
    ),
    "run[].mount[].target": put("builder.run.0.mount.0.target", "/media", step),
    "run[]: one more": do(
        lambda p: p.stages["builder"]["run"].append({"script": "zz"}), both(named_step("zz"), compiled)
    ),
    "args: of no use": put("runtime.args", {"RELEASE": "1"}, none),
    "wheels.prefer: a wheel that was alone": do(_prefer_heavy, none),
    "wheels.locks: the same lock by another name": do(_rename_lock, none),
    "wheels.package": _choose("package", "api"),
    "wheels.extras": _choose("extras", ["gpu"]),
    "wheels.groups": _choose("groups", ["serve"]),
    "wheels.only-groups": _choose("only-groups", ["serve"]),
    "wheels.project": _choose("project", False),
    "models.lock: the same lock by another name": put("weights.models.lock", "requirements/renamed.lock", none),
    "models.target": put("weights.models.target", "/opt/models", models),
    "models.mount": put(
        "weights.models.mount",
        True,
        lambda seen, _: {"weights/models", "weights-models/sbom"} & seen.specs.keys(),  # models keep their keys
    ),
    "models.names": put("weights.models.names", ["own"], both(model("vad"), model("inside"))),
    "copy[].source: the same files by another name": moved(
        f"{APP}/", "stages/runtime/renamed/", put("runtime.copy.0.source", "renamed", none)
    ),
    "copy[].untracked: the files are the same": put("runtime.copy.1.untracked", True, none),
    "copy[].source: other files": put("runtime.copy.1.source", "app/main.py", copied("/etc/conf.ini")),
    "copy[].target": put(
        "runtime.copy.1.target", "/opt/conf.ini", both(*map(copied, ("/etc/conf.ini", "/opt/conf.ini")))
    ),
    "running.memory": put("runtime.running.memory", "2g", none),
    "running.pids": put("runtime.running.pids", 9, none),
    "running.cpus": put("runtime.running.cpus", 1.5, none),
    "running.tmpfs": put("runtime.running.tmpfs", {"/tmp": "9m"}, none),
    "running.outgoing": put("runtime.running.outgoing", True, none),
    "running.stop-seconds": put("runtime.running.stop-seconds", 9, none),
    "running.system-calls": put("runtime.running.system-calls", "default", none),
    "running.strict": put("runtime.running.strict", True, none),
    "running.metrics": put("runtime.running.metrics", "8002/metrics", none),
    "serve.lock": _served("lock", "requirements/models.lock"),
    "serve.target": _served("target", "/srv/models"),
    "serve.backend": _served("backend", "python"),
    "serve.model[].name": _served("model.0.name", "m"),
    "serve.model[].versions": _served("model.0.versions", {"1": "own", "7": "own"}),
    "serve.model[].file": _served("model.0.file", "w.bin"),
    "serve.model[].config": _served("model.0.config", "serving/text"),
    "serve.model[].script": _served("model.0.script", "serving/text"),
    "serve.model[].files": _served("model.0.files", ["serving/text"]),
    "serve.model[].max-batch": _served("model.0.max-batch", 4),
    "serve.model[].threads": _served("model.0.threads", 2),
    "serve.model[].instances": _served("model.0.instances", 2),
    "serve.model[].batching.preferred": _served("model.0.batching.preferred", [4]),
    "serve.model[].batching.delay": _served("model.0.batching.delay", 0.5),
    "serve.model[].batching.queue": _served("model.0.batching.queue", 9),
    "serve.model[].batching.timeout": _served("model.0.batching.timeout", 9),
    "serve.model[].warm-up.batch": _served("model.0.warm-up.batch", 2),
    "serve.model[].warm-up.data": _served("model.0.warm-up.data", "random"),
    "serve.model[].warm-up.shapes": _served("model.0.warm-up.shapes", {"x": [1]}),
    "serve.model[].cache": _served("model.0.cache", True),
    "serve.model[].policy.latest": _served("model.0.policy.latest", 1),
    "serve.model[].policy.only": _served("model.0.policy.only", [1]),
    "serve.ensemble[].name": _served("ensemble.0.name", "other"),
    "serve.ensemble[].step[].model": _served("ensemble.0.step.0.model", "m"),
    "serve.ensemble[].step[].version": _served("ensemble.0.step.0.version", 1),
    "serve.ensemble[].step[].input": _served("ensemble.0.step.0.input", {"z": "IN"}),
    "serve.ensemble[].step[].output": _served("ensemble.0.step.0.output", {"z": "OUT"}),
    "serve.ensemble[].output": _served("ensemble.0.output", ["OUT"]),
    "gpu.count": put("runtime.gpu.count", 2, none),
    "gpu.devices": put("runtime.gpu.devices", ["0"], none),
    "gpu.memory": put("runtime.gpu.memory", "16g", none),
    "gpu.capability": put("runtime.gpu.capability", "8.0", none),
    "gpu.driver": put("runtime.gpu.driver", ">=570", none),
    "gpu.share": put("runtime.gpu.share", "time-slice", none),
    "gpu.optional": put("runtime.gpu.optional", True, none),
    "gpu.mps.threads": put("runtime.gpu", {"share": "mps", "mps": {"threads": 50}}, none),
    "gpu.mps.memory": put("runtime.gpu", {"share": "mps", "mps": {"memory": "8g"}}, none),
    "framework.threads": _tuned("threads", "cgroup"),
    "framework.torch.memory-fraction": _tuned("torch.memory-fraction", 0.5),
    "framework.torch.expandable-segments": _tuned("torch.expandable-segments", True),
    "framework.torch.amp": _tuned("torch.amp", "fp16"),
    "framework.torch.checkpoint": _tuned("torch.checkpoint", True),
    "framework.torch.tf32": _tuned("torch.tf32", False),
    "framework.tensorflow.growth": _tuned("tensorflow.growth", True),
    "framework.tensorflow.limit": _tuned("tensorflow.limit", "2g"),
    "framework.onnxruntime.gpu-mem-limit": _tuned("onnxruntime.gpu-mem-limit", "1g"),
    "framework.onnxruntime.arena-extend-strategy": _tuned("onnxruntime.arena-extend-strategy", "kSameAsRequested"),
    "framework.onnxruntime.cudnn-conv-algo-search": _tuned("onnxruntime.cudnn-conv-algo-search", "HEURISTIC"),
    "framework.onnxruntime.do-copy-in-default-stream": _tuned("onnxruntime.do-copy-in-default-stream", False),
    "framework.onnxruntime.enable-cpu-mem-arena": _tuned("onnxruntime.enable-cpu-mem-arena", False),
    "framework.onnxruntime.providers": _tuned("onnxruntime.providers", ["CPUExecutionProvider"]),
    "config.user": put("base.config.user", "ml", none),
    "config.workdir": put("builder.config.workdir", "/srv", none),
    "config.entrypoint": put("runtime.config.entrypoint", ["x"], none),
    "config.cmd": put("runtime.config.cmd", ["something", "else"], none),
    "config.env: of an image": put("runtime.config.env", {"OTHER": "1"}, none),
    "config.env: of the builder": put("builder.config.env", {"OTHER": "1"}, compiled),
    "config.env: below the builder": put("base.config.env", {"OTHER": "1"}, compiled),
    "config.ports": put("runtime.config.ports", ["8000"], none),
    "config.volumes": put("base.config.volumes", ["/data"], none),
    "config.labels": put("builder.config.labels", {"a": "something else"}, none),
    "config.stop-signal": put("runtime.config.stop-signal", "SIGINT", none),
    "config.healthcheck.test": put("runtime.config.healthcheck", {"test": ["y"]}, none),
    "config.healthcheck.interval": put("base.config.healthcheck", {"test": ["y"], "interval": 7}, none),
    "config.healthcheck.timeout": put("base.config.healthcheck", {"test": ["y"], "timeout": 7}, none),
    "config.healthcheck.start-period": put("base.config.healthcheck", {"test": ["y"], "start-period": 7}, none),
    "config.healthcheck.retries": put("base.config.healthcheck", {"test": ["y"], "retries": 7}, none),
}
PROJECT: dict[str, Mutate] = {
    "name": setting("name", "another", none),
    "locker": setting("locker", "pip-tools", none),
    "python: another": setting("python", "3.12", both(prefix, wheels)),
    "python: another patch release": setting("python", "3.13.9", prefix),
    "glibc": setting("glibc", "2.36", none),
    "arch": setting("arch", "aarch64", root),
    "prefix": setting("prefix", "/opt/elsewhere", both(prefix, wheels, compiled)),
    "interpreter: standalone": _STANDALONE,
    "interpreter": setting("interpreter", "/usr/bin/python3.14", both(prefix, wheels)),
    "site-packages": setting("site-packages", "system", prefix),
    "bytecode": do(_flip_bytecode, lambda seen, _: seen.wheels() | ({"base/root"} & seen.specs.keys())),
    "bytecode-root": _bytecode_root,
    "builder: the same by another name": do(_second_builder, none),
    "heavy": setting("heavy", 2, regrouped),
    "bins": setting("bins", 10, regrouped),
    "max-layers": setting("max-layers", 99, none),
    "compression": setting("compression", "gzip", lambda seen, _: seen.specs.keys() - {"base/image"}),
    "compression: in parts": setting("compression", "zstd:chunked", lambda seen, _: seen.specs.keys() - {"base/image"}),
    "cache": setting("cache", "localhost:5000/c", none),
    "cache-write": setting("cache-write", "localhost:5000/c", none),
    "delivery": setting("delivery", "import", none),
    "labels": setting("labels", {"a": "b"}, none),
    "commit-labels": setting("commit-labels", True, none),
    "unscanned-models": setting("unscanned-models", "warn", none),
    "scan-allow": setting("scan-allow", ["pandas"], none),
    "unscanned-wheels": setting("unscanned-wheels", "warn", none),
}
WHEELS: dict[str, Mutate] = {
    "an upgrade": first_wheel(version="9", file="x-9-py3-none-any.whl", sha256=sha("9")),
    "version": first_wheel(version="9"),
    "sha256": first_wheel(sha256=sha("another")),
    "file": artifact(none, file="x-9-py3-none-any.whl"),
    "size: a little": do(_grow_a_little, none),
    "size: across the limit": do(_cross_heavy, regrouped),
    "name": do(lambda p: [entry.update(name="renamed") for entry in p.artifacts(p.wheels[DEPS][0]["name"])], regrouped),
    "place": do(lambda p: p.wheels[DEPS][0].update(place="https://example.org/x.whl"), none),
    "unseen": do(lambda p: p.wheels[DEPS][0].update(unseen=True), none),
    "a light one more": do(lambda p: p.wheels[DEPS].append(wheel("new", "1", 5)), regrouped),
    "a heavy one more": do(lambda p: p.wheels[DEPS].append(wheel("new", "1", HEAVY)), regrouped),
    "one less": do(lambda p: p.wheels[DEPS].pop(1), regrouped),
    "an sdist": do(lambda p: p.wheels[DEPS][-2].update(sha256=sha("another")), lambda s, _: _sdists(s)),
    "path: the same files by another name": moved("libs/local/", "libs/other/", do(_rename_local, none)),
    "path: other content": file("libs/local/src.c", "long x;\n", "file", holding("local")),
    "path: a file more": file("libs/local/more.c", "", "file", holding("local")),
    "path: its metadata": file("libs/local/pyproject.toml", "[project]\nname = 'local'\n", "file", holding("local")),
}
_IN_CACHE = {"layout": "hf-cache", "source": "hf:org/vad", "version": "a" * 40}
MODELS: dict[str, Mutate] = {
    "model[].target": weights(0, model("vad"), target="/opt/vad"),
    "model[].layout": weights(0, model("vad"), **_IN_CACHE),
    "model[].revision": weights(0, model("vad"), **_IN_CACHE, revision="v1.0"),
    "model[].name": weights(0, both(model("vad"), model("other")), name="other"),
    "model[].version": weights(0, none, version="77"),
    "model[].source": weights(0, none, source="https://elsewhere.org/vad"),
    "model[].license": weights(0, none, license="Apache-2.0"),
    "model[].request": weights(0, none, request=sha("another request")),
    "model[].wheel.name": do(lambda p: p.models[2]["wheel"].update(name="renamed"), none),
    "model[].wheel.version": do(lambda p: p.models[2]["wheel"].update(version="9"), none),
    "model[].wheel.file": do(lambda p: p.models[2]["wheel"].update(file="x.whl"), none),
    "model[].wheel.sha256": do(lambda p: p.models[2]["wheel"].update(sha256=sha("another")), none),
    "model[].wheel.size": do(lambda p: p.models[2]["wheel"].update(size=8), none),
    "model[].file[].path": model_file(both(model("vad", "f0.bin"), model("vad", "a/b.bin")), path="a/b.bin"),
    "model[].file[].sha256": model_file(model("vad", "f0.bin"), sha256=sha("another")),
    "model[].file[].size": do(_cross_large, regrouped),
    "model[].file[].source": model_file(none, source="https://elsewhere.org/x"),
    "model[].derived.tool": derived(),
    "model[].derived.options": derived(),
    "model[].derived.stage": derived(),
    "model[].derived.report": derived(),
    "model[].derived.ranges": derived(),
    "model[].derived.gate.data": derived(better="higher"),
    "model[].derived.gate.metric": derived(better="higher"),
    "model[].derived.gate.better": derived(better="lower"),
    "model[].derived.gate.max-loss": derived(**{"max-loss": 0.5}),
    "model[].derived.gate.max-size": derived(**{"max-size": 0.5}),
    "model[].derived.gate.max-latency": derived(**{"max-latency": 0.5}),
    "a model of one's own": file("weights/w.bin", "other weights", "file", model("own")),
    "a model less": do(lambda p: p.models.pop(0), model("vad")),
    "a model file less": do(lambda p: len(p.models[2]["file"]) > 1 and p.models[2]["file"].pop(), regrouped),
}
FILES: dict[str, Mutate] = {
    "content": file(f"{APP}/main.py", "print(2)\n", "file", copied("/app")),
    "content of the same size": file(f"{APP}/sub/é x.txt", "y", "file", copied("/app")),
    "the executable bit set": file(f"{APP}/main.py", "print(1)\n", "exec", copied("/app")),
    "the executable bit cleared": file(f"{APP}/run.sh", "exec main\n", "file", copied("/app")),
    "where a link leads": file(f"{APP}/sub/link", "é x.txt", "link", copied("/app")),
    "a file for a link": file(f"{APP}/sub/link", "../run.sh", "file", copied("/app")),
    "a file's name": file(f"{APP}/app.py", "print(1)\n", "file", copied("/app"), instead_of=f"{APP}/main.py"),
    "a file more": file(f"{APP}/new.py", "", "file", copied("/app")),
    "a file less": file(f"{APP}/main.py", None, "file", copied("/app")),
    "what is ignored": file(f"{APP}/debug.log", "another", "file", none),
    "one more that is ignored": file(f"{APP}/sub/more.log", "x", "exec", none),
    "what is kept": file(f"{APP}/keep.log", "another", "file", copied("/app")),
    "what to ignore": do(lambda p: p.ignored.append("**/main.py"), copied("/app")),
    "what to ignore elsewhere": do(lambda p: p.ignored.append("**/nothing"), none),
    "a file alone": file("stages/runtime/conf.ini", "a=2\n", "file", copied("/etc/conf.ini")),
    "a mounted file": file("#tools/data", "e", "file", step),
    "a mounted file's mode": file("#tools/data", "d", "exec", step),
    "a mounted file's name": file("#tools/date", "d", "file", step, instead_of="#tools/data"),
    "a mounted file more": file("#tools/more", "", "file", step),
    "what nothing names": file("unrelated.txt", "v", "file", none),
    "what nothing names, more": file("stages/runtime/README", "v", "file", none),
}


def _mount(small: Small, source: str) -> None:
    for mount in small.step["mount"]:
        mount["source"] = mount["source"].replace("#tools", source)


def _sdists(seen: Seen) -> set[str]:
    return {name for name in seen.keys if name.startswith("compile ") and name != "compile local"}


def named(mutations: Iterable[str]) -> set[str]:
    """The places that mutations are named after."""
    return {name.partition(":")[0] for name in mutations}
