"""Bytecode is compiled by the image's interpreter, is found by it, and depends on nothing else."""

import importlib.util
import io
import marshal
import os
import struct
import sys

import pytest
from wheelmaker import make_wheel, read_layer

from buildkit.declare.target import Target
from buildkit.errors import BuildError
from buildkit.layers.wheel.bytecode import Compiler, cache_path, worker_argv
from buildkit.layers.wheel.layer import layer_of_wheels
from buildkit.tools.process import Command, run, start

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = sys.implementation.cache_tag
TARGET = Target(python=MINOR, glibc="2.41", arch="x86_64")
SITE = f"opt/venv/lib/python{MINOR}/site-packages"
BATCHES = {
    f"pkg/m{number:03}.py": f"NAME = 'm{number}'\nWORDS = {{'a', 'b', 'c{number}'}}\n".encode() for number in range(150)
}


@pytest.fixture
def compiler():
    with start(Command(argv=worker_argv(sys.executable))) as worker, Compiler(worker.stdin, worker.stdout) as made:
        yield made


def wheel(folder, name, files):
    return make_wheel(folder, files, name=name, METADATA=f"Name: {name}\nVersion: 1.0\n\n")


def test_bytecode_path_is_in_pycache_of_the_module():
    assert cache_path("a/b/mod.py", "cpython-313") == "a/b/__pycache__/mod.cpython-313.pyc"


def test_program_that_is_no_worker_raises_an_error():
    with pytest.raises(BuildError, match="did not start as a bytecode compiler"):
        Compiler(io.BytesIO(), io.BytesIO(b"sh: python: not found\n"))


def test_worker_that_ends_early_raises_an_error():
    compiler = Compiler(io.BytesIO(), io.BytesIO(b"buildkit-pyc 1 cpython-313\n"))
    with pytest.raises(BuildError, match="ended before"):
        compiler.submit([("/a.py", b"")]).result(timeout=60)


@pytest.mark.tools
@pytest.mark.parametrize("reads", [False, True])
def test_worker_ends_after_its_caller_was_killed(tmp_path, reads):
    pipes = tmp_path / "out", tmp_path / "in"
    for pipe in pipes:
        os.mkfifo(pipe)
    argv = [part.replace("alarm(60)", "alarm(1)") for part in worker_argv(sys.executable, *map(str, pipes))]
    reader = os.open(pipes[0], os.O_RDONLY | os.O_NONBLOCK) if reads else None
    try:
        with start(Command(argv=tuple(argv))) as worker:
            assert worker.wait(timeout=60) != 0
    finally:
        if reader is not None:
            os.close(reader)


@pytest.mark.tools
def test_every_module_has_bytecode_listed_in_record(tmp_path, compiler):
    files = {"demo/__init__.py": b"X = 1\n", "demo/template.py": b"{% not python %}\n", "demo/data.txt": b"x"}
    found, _ = read_layer(layer_of_wheels([make_wheel(tmp_path, files)], TARGET, compiler))
    made = [path for path in found if path.endswith(".pyc")]
    assert made == [f"{SITE}/demo/__pycache__/__init__.{TAG}.pyc"]
    rows = found[f"{SITE}/demo_pkg-1.0.dist-info/RECORD"][0].decode().splitlines()
    assert f"demo/__pycache__/__init__.{TAG}.pyc,," in rows
    assert sum(".pyc" in row for row in rows) == 1
    assert list(found)[-1].endswith("/RECORD")


@pytest.mark.tools
def test_pyc_has_an_unchecked_hash_and_the_path_in_the_image(compiler):
    source = b"def f():\n    '''words'''\n    assert f\n"
    (pyc,) = compiler.submit([("/opt/venv/x.py", source)]).result()
    assert pyc[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(pyc[4:8], "little") == 1, "PEP 552: hash-based, not checked"
    assert pyc[8:16] == importlib.util.source_hash(source)
    code = marshal.loads(pyc[16:])
    assert code.co_filename == "/opt/venv/x.py"
    assert any(getattr(const, "co_consts", ("",))[0] == "words" for const in code.co_consts), "optimised: no docstring"


@pytest.mark.tools
def test_module_that_does_not_compile_has_no_bytecode(capfd, compiler):
    sources = [b"print 'x'", b"x = 1\0", b"# -*- coding: nonsense -*-\n", b"(" * 5000, b"x = '\\d'\n", b"\xff", b""]
    compiled = compiler.submit([(f"/{number}.py", source) for number, source in enumerate(sources)]).result()
    assert [bool(pyc) for pyc in compiled] == [False, False, False, False, True, False, True]
    assert capfd.readouterr() == ("", "")


@pytest.mark.tools
def test_bytecode_does_not_depend_on_earlier_batches(tmp_path):
    one, two = wheel(tmp_path, "one", BATCHES), wheel(tmp_path, "two", {"two.py": b"WORDS = {'c1', 'c2', 'm3'}\n"})

    def layers(*wheels):
        with start(Command(argv=worker_argv(sys.executable))) as worker, Compiler(worker.stdin, worker.stdout) as made:
            return {path.name: read_layer(layer_of_wheels([path], TARGET, made))[1].diff_id for path in wheels}

    assert layers(one, two) == layers(two, one)


@pytest.mark.tools
def test_interpreter_runs_from_bytecode_alone(tmp_path, compiler):
    source = b"print('ran from', __cached__)\n" if sys.version_info < (3, 15) else b"print('ran')\n"
    (pyc,) = compiler.submit([(str(tmp_path / "mod.py"), source)]).result()
    (tmp_path / "mod.py").write_bytes(b"raise SystemExit('the source was compiled again')\n")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / f"mod.{TAG}.pyc").write_bytes(pyc)
    ran = run(Command(argv=(sys.executable, "-c", "import mod"), cwd=tmp_path))
    assert ran.text.startswith("ran")


@pytest.mark.tools
def test_dying_child_fails_only_its_batch():
    no_text = struct.pack(">II", 1, 0) + b"\xff"  # a path that the child cannot decode
    good = struct.pack(">II", 2, 5) + b"/ax = 1"
    with start(Command(argv=worker_argv(sys.executable))) as worker:
        worker.stdin.write(b"".join(struct.pack(">II", n, len(p)) + p for n, p in enumerate((no_text, good))))
        worker.stdin.close()
        worker.stdout.readline()
        replies = worker.stdout.read()
    states = {}
    while replies:
        number, state, size = struct.unpack_from(">IBI", replies)
        states[number] = state, size > 0
        replies = replies[9 + size :]
    assert states == {0: (1, False), 1: (0, True)}


def test_batch_of_a_dead_child_raises_an_error():
    reading, writing = os.pipe()
    os.write(writing, b"buildkit-pyc 1 cpython-313\n")
    with (
        os.fdopen(reading, "rb") as stdout,
        os.fdopen(writing, "wb") as answers,
        Compiler(io.BytesIO(), stdout) as compiler,
    ):
        future = compiler.submit([("/a.py", b"")])
        answers.write(struct.pack(">IBI", 0, 1, 0))
        answers.close()
        with pytest.raises(BuildError, match="died while compiling"):
            future.result(timeout=60)


@pytest.mark.tools
def test_many_large_batches_in_flight_do_not_block(compiler):
    source = b"x = [" + b"1, " * 100_000 + b"]\n"
    futures = [compiler.submit([("/a.py", source)]) for _ in range(24)]
    assert len({future.result(timeout=60)[0] for future in futures}) == 1


@pytest.mark.tools
def test_worker_refuses_a_random_hash_seed():
    *start_options, _, source = worker_argv(sys.executable)
    refused = run(Command(argv=(start_options[0], "-I", "-S", "-c", source), accept=(1,)))
    assert b"PYTHONHASHSEED is not 0" in refused.stderr
