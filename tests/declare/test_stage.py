"""Stage files: their meaning, and all mistakes of a file reported at once."""

from __future__ import annotations

import pytest

from buildkit.declare.framework import Framework, OnnxruntimeSettings, TensorflowSettings, TorchSettings
from buildkit.declare.stage import Config, Copy, Debian, Healthcheck, Models, Mount, Run, Running, Stage, User
from buildkit.declare.stage_file import parse_stage
from buildkit.errors import DefinitionError, Problem

FILE = "stages/x/stage.toml"
FULL = """
summary = "everything"
include = ["a", "b.c"]
ships = true
[root]
suite = "trixie"
packages = "requirements/base.apt"
variant = "apt"
components = ["main", "contrib"]
exclude = ["usr/share/man/**"]
drop-setuid = true
[[root.user]]
name = "ml"
uid = 1000
[[root.user]]
name = "ops"
uid = 1001
gid = 50
home = "/srv"
shell = "/bin/sh"
[apt]
packages = "requirements/more.apt"
[[run]]
script = \"\"\"
  make    all
\"\"\"
[[run]]
name = "fetch"
command = ["curl", "-f"]
network = true
env = { B = "2", A = "1" }
mount = [{ source = "x/y", target = "/mnt" }]
[wheels]
locks = ["requirements/a.txt", "requirements/b.txt"]
[models]
lock = "requirements/models.lock"
names = ["m"]
[[copy]]
source = "app"
target = "/app"
[config]
user = "ml"
workdir = "/app"
entrypoint = ["tini", "--"]
cmd = ["python"]
env = { Z = "1", A = "" }
ports = ["8000", "53/udp"]
volumes = ["/data"]
labels = { "org.x/y" = "z" }
stop-signal = "SIGRTMIN+3"
[config.healthcheck]
test = ["true"]
start-period = 9
[framework]
threads = "cgroup"
torch = { memory-fraction = 0.5, expandable-segments = true, amp = "bf16", checkpoint = true, tf32 = false }
tensorflow = { growth = false, limit = "2g" }
[framework.onnxruntime]
gpu-mem-limit = "4g"
arena-extend-strategy = "kSameAsRequested"
cudnn-conv-algo-search = "HEURISTIC"
do-copy-in-default-stream = false
providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
[running]
memory = "512m"
pids = 64
tmpfs = { "/tmp" = "8m", "/dev/shm" = "1g" }
outgoing = true
stop-seconds = 3
"""


def parse(text: str, name: str = "x") -> Stage:
    return parse_stage(text, name=name, file=FILE)


def problems_of(text: str, name: str = "x") -> list[tuple[str, str, str]]:
    with pytest.raises(DefinitionError) as caught:
        parse(text, name)
    assert all(problem.file == FILE for problem in caught.value.problems)
    return [(problem.key, problem.what, problem.hint) for problem in caught.value.problems]


def test_stage_with_every_key_is_parsed() -> None:
    assert parse(FULL) == Stage(
        name="x",
        file=FILE,
        summary="everything",
        include=("a", "b.c"),
        ships=True,
        debian=Debian(
            suite="trixie",
            packages="requirements/base.apt",
            variant="apt",
            components=("main", "contrib"),
            exclude=("usr/share/man/**",),
            users=(
                User(name="ml", uid=1000, gid=1000, home="/home/ml", shell="/usr/sbin/nologin"),
                User(name="ops", uid=1001, gid=50, home="/srv", shell="/bin/sh"),
            ),
            drop_setuid=True,
        ),
        apt="requirements/more.apt",
        run=(
            Run(name="make all", command=("/bin/sh", "-eu", "-c", "  make    all\n")),
            Run(
                name="fetch",
                command=("curl", "-f"),
                network=True,
                env=(("A", "1"), ("B", "2")),
                mounts=(Mount(source="x/y", target="/mnt"),),
            ),
        ),
        wheels=("requirements/a.txt", "requirements/b.txt"),
        models=Models(lock="requirements/models.lock", target="/models", names=("m",)),
        copy=(Copy(source="app", target="/app"),),
        config=Config(
            user="ml",
            workdir="/app",
            entrypoint=("tini", "--"),
            cmd=("python",),
            env=(("A", ""), ("Z", "1")),
            ports=("8000", "53/udp"),
            volumes=("/data",),
            labels=(("org.x/y", "z"),),
            stop_signal="SIGRTMIN+3",
            healthcheck=Healthcheck(test=("true",), interval=30, timeout=10, start_period=9, retries=3),
        ),
        framework=Framework(
            threads="cgroup",
            torch=TorchSettings(memory_fraction=0.5, expandable_segments=True, amp="bf16", checkpoint=True, tf32=False),
            tensorflow=TensorflowSettings(growth=False, limit="2g"),
            onnxruntime=OnnxruntimeSettings(
                gpu_mem_limit="4g",
                arena_extend_strategy="kSameAsRequested",
                cudnn_conv_algo_search="HEURISTIC",
                do_copy_in_default_stream=False,
                providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
            ),
        ),
        running=Running(
            memory="512m",
            pids=64,
            tmpfs=(("/dev/shm", "1g"), ("/tmp", "8m")),
            outgoing=True,
            stop_seconds=3,
        ),
    )


def test_minimal_stage_is_parsed_with_defaults() -> None:
    stage = parse('summary = "x"\nfrom = "base"')
    assert stage == Stage(name="x", file=FILE, summary="x", base="base")
    assert stage.folder == "stages/x"


def test_a_root_may_be_an_image_pinned_by_digest() -> None:
    for name in ("docker.io/library/debian:trixie", "[::1]:5000/debian"):
        image = f"{name}@sha256:" + "0a" * 32
        assert parse(f'summary = "x"\n[root]\nimage = "{image}"').image == image


def test_every_problem_of_a_file_is_reported_at_once() -> None:
    text = """
    form = "base"
    include = "wheels"
    ships = "yes"
    [root]
    suite = "trixie"
    varant = "apt"
    [[root.user]]
    name = "Bad Name"
    uid = 0
    [[run]]
    name = "both"
    command = ["x"]
    script = "y"
    [[copy]]
    source = "../../../secret"
    target = "/usr/../bin"
    [config]
    ports = ["0", "8000", "x"]
    env = { "A-B" = "1" }
    healthcheck = { retries = 0 }
    """
    found = problems_of(text)
    assert {key: what for key, what, _ in found} == {
        "form": "is an unknown key",
        "summary": "is missing",
        "include": "must be a list, not a string",
        "ships": "must be true or false, not a string",
        "root.varant": "is an unknown key",
        "root.user[0].name": "`Bad Name` is not an account name",
        "root.user[0].uid": "0 is not between 1 and 65533",
        "root.packages": "is missing",
        "run[0]": "needs either `command` or `script`",
        "copy[0].source": "`../../../secret` leads out of the repository",
        "copy[0].target": "`/usr/../bin` is below /bin",
        "config.ports[2]": "`x` is not a port (8000 or 53/udp)",
        "config.ports[0]": "0 is not a port",
        "config.env.A-B": "is not a usable name",
        "config.healthcheck.test": "is missing",
        "config.healthcheck.retries": "0 is not between 1 and 100",
    }
    hints = {key: hint for key, _, hint in found}
    assert hints["form"] == "did you mean `from`?"
    assert hints["root.varant"] == "did you mean `variant`?"
    with pytest.raises(DefinitionError, match=r"^17 problems:\n  - stages/x/stage\.toml: `form`: is an unknown key"):
        parse(text)  # 16 keys, and the target has two


SAY = 'summary = "x"\n'
DIGEST = "sha256:" + "a" * 64
BAD = {
    "run without a root": (SAY + '[[run]]\nscript = "x"', "run", "needs a root"),
    "growth beside a limit": (
        SAY + '[framework.tensorflow]\ngrowth = true\nlimit = "8g"',
        "framework.tensorflow.limit",
        "excludes `growth`: TensorFlow refuses memory growth on a GPU that has a logical device with a limit",
    ),
    "a limit below TensorFlow's unit": (
        SAY + '[framework.tensorflow]\nlimit = "1000k"',
        "framework.tensorflow.limit",
        "`1000k` is not a size in TensorFlow's unit, a mebibyte (512m, 8g)",
    ),
    "a fraction above one": (
        SAY + "[framework.torch]\nmemory-fraction = 80",
        "framework.torch.memory-fraction",
        "80 is not between 0.01 and 1",
    ),
    "an unknown precision": (
        SAY + '[framework.torch]\namp = "fp8"',
        "framework.torch.amp",
        "`fp8` is none of bf16, fp16",
    ),
    "no execution provider": (
        SAY + "[framework.onnxruntime]\nproviders = []",
        "framework.onnxruntime.providers",
        "needs at least 1 item",
    ),
    "apt without a root": (SAY + '[apt]\npackages = "x"', "apt", "needs a root"),
    "root beside from": (SAY + f'from = "a"\n[root]\nimage = "x@{DIGEST}"', "root", "conflicts with `from`"),
    "image beside suite": (
        SAY + f'[root]\nimage = "x@{DIGEST}"\nsuite = "trixie"',
        "root.suite",
        "has no effect with `image`",
    ),
    "image by tag": (
        SAY + '[root]\nimage = "debian:trixie"',
        "root.image",
        "`debian:trixie` is not the whole name of an image (REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:...)",
    ),
    "no packages": (SAY + '[root]\nsuite = "trixie"', "root.packages", "is missing"),
    "a suite of another type": (
        SAY + '[root]\nsuite = 13\npackages = "p"',
        "root.suite",
        "must be a string, not a whole number",
    ),
    "a script of another type": (
        SAY + 'from = "a"\n[[run]]\nscript = ["x"]',
        "run[0].script",
        "must be a string, not a list",
    ),
    "a run with neither": (SAY + 'from = "a"\n[[run]]\nname = "x"', "run[0]", "needs either `command` or `script`"),
    "an empty command": (SAY + 'from = "a"\n[[run]]\ncommand = []', "run[0].command", "needs at least 1 item"),
    "a mount outside": (
        SAY + 'from = "a"\n[[run]]\nscript = "x"\nmount = [{ source = "a/../../b", target = "/x" }]',
        "run[0].mount[0].source",
        "`a/../../b` is not a path in the repository (relative, without `..`)",
    ),
    "an absolute lock": (
        SAY + '[wheels]\nlocks = ["/etc/x.txt"]',
        "wheels.locks[0]",
        "`/etc/x.txt` is not a path in the repository (relative, without `..`)",
    ),
    "a choice from a requirements lock": (
        SAY + '[wheels]\nlocks = ["a.txt"]\nextras = ["gpu"]',
        "wheels.extras",
        "has no effect on requirements locks",
    ),
    "groups alone with others": (
        SAY + '[wheels]\nlocks = ["uv.lock"]\nonly-groups = ["build"]\ngroups = ["dev"]',
        "wheels.groups",
        "has no effect with `only-groups`",
    ),
    "no locks": (SAY + "[wheels]\nlocks = []", "wheels.locks", "needs at least 1 item"),
    "a relative target": (
        SAY + '[[copy]]\nsource = "a"\ntarget = "app"',
        "copy[0].target",
        "`app` is not an absolute path in the image",
    ),
    "models in /tmp": (SAY + '[models]\nlock = "x"\ntarget = "/tmp"', "models.target", "`/tmp` is below /tmp"),
    "files below /lib": (
        SAY + '[[copy]]\nsource = "a"\ntarget = "//lib/x/"',
        "copy[0].target",
        "`//lib/x/` is below /lib",
    ),
    "a port in other digits": (
        SAY + '[config]\nports = ["８０００"]',
        "config.ports[0]",
        "`８０００` is not a port (8000 or 53/udp)",
    ),
    "a high port": (SAY + '[config]\nports = ["65536/tcp"]', "config.ports[0]", "65536/tcp is not a port"),
    "a signal": (SAY + '[config]\nstop-signal = "TERM"', "config.stop-signal", "`TERM` is not a signal"),
    "a shell that ends a line of passwd": (
        SAY + '[root]\nsuite = "x"\npackages = "p"\nuser = [{ name = "a", uid = 1, shell = "/bin/sh:x" }]',
        "root.user[0]",
        "home and shell must not hold `:` or a line break",
    ),
    "two accounts of one id": (
        SAY + '[root]\nsuite = "x"\npackages = "p"\nuser = [{ name = "a", uid = 7 }, { name = "b", uid = 7 }]',
        "root.user",
        "two accounts have the uid 7",
    ),
    "two accounts of one name": (
        SAY + '[root]\nsuite = "x"\npackages = "p"\nuser = [{ name = "a", uid = 7 }, { name = "a", uid = 8 }]',
        "root.user",
        "two accounts have the name a",
    ),
    "a stage name": (
        SAY + 'from = "Base"',
        "from",
        "`Base` is not a stage name (lower case letters, digits, `.`, `_`, `-`)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_each_mistake_is_reported_at_its_key(case: str) -> None:
    text, key, what = BAD[case]
    assert [(k, w) for k, w, _ in problems_of(text)] == [(key, what)]


@pytest.mark.parametrize("target", ["/app", "/usr/lib/x", "/", "/binary", "/models", "/var/lib", "/opt/bin"])
def test_reserved_target_folders_are_refused_and_others_allowed(target: str) -> None:
    assert parse(f'{SAY}[[copy]]\nsource = "a"\ntarget = "{target}"').copy[0].target == target


@pytest.mark.parametrize("name", ["Bad", "a b", "-a", "a--b", "a/b", "ä"])
def test_stage_folder_with_invalid_image_name_is_refused(name: str) -> None:
    ((key, what, hint),) = problems_of(SAY, name)
    assert (key, hint) == ("", "images are named after it")
    assert what == f"the folder's name `{name}` is not a stage name (lower case letters, digits, `.`, `_`, `-`)"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = ", "is not TOML: Invalid value (at end of document)"),
        ("a = 1\na = 2", "is not TOML: Cannot overwrite a value (at end of document)"),
        ("x = " + "[" * 20_000, "is nested too deeply"),
        ("x = " + "1" * 5_000, "is not TOML: Exceeds the limit"),
    ],
)
def test_invalid_toml_is_reported_with_file_and_line(text: str, what: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"{FILE}: {what}")
    assert isinstance(caught.value.problems[0], Problem)


def test_sources_of_a_list_keep_their_names_below_the_target() -> None:
    text = """
        summary = "x"
        [[copy]]
        source = ["main.py", "../lib/common", "/data/"]
        target = "/app/"
        untracked = true
    """
    assert parse_stage(text, name="x", file="stages/x/stage.toml").copy == (
        Copy(source="main.py", target="/app/main.py", untracked=True),
        Copy(source="../lib/common", target="/app/common", untracked=True),
        Copy(source="/data/", target="/app/data", untracked=True),
    )


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("[]", "needs at least 1 item"),
        ('["a", ".."]', "`..` has no name to keep"),
        ("3", "must be a string"),
        ('["a", 3]', "must be a string"),
    ],
)
def test_list_of_sources_without_names_is_refused(source: str, what: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_stage(f'summary = "x"\n[[copy]]\nsource = {source}\ntarget = "/x"', name="x", file="f")
    assert what in str(caught.value)


def test_choices_from_locks_of_other_tools_have_an_own_sidecar() -> None:
    text = '[wheels]\nlocks = ["a.txt", "./services/uv.lock"]\npackage = "api"\nextras = ["y", "x"]\nproject = false'
    stage = parse_stage(SAY + text, name="x", file="stages/x/stage.toml")
    (choice,) = stage.choices
    assert stage.wheels == ("a.txt", "services/uv.api.extra-x.extra-y.no-project.wheels.toml")
    assert choice.id == stage.wheels[1]
    assert (choice.file, choice.kind, choice.folder) == ("services/uv.lock", "uv", "services")
    assert str(choice) == "services/uv.lock (package api, extra x, extra y)"


@pytest.mark.parametrize("lock", ["setup.toml", "pdm.lock", "Pipfile.lock"])
def test_files_that_are_no_lock_of_ours_are_named(lock: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_stage(f'{SAY}[wheels]\nlocks = ["{lock}"]', name="x", file="stages/x/stage.toml")
    assert caught.value.problems[0].what == f"`{lock}` is not a lock that can be read"
