"""Compiles Python sources to bytecode inside the image; sent there as text, never imported by buildkit.

Runs on Python 3.9 to 3.14 with the standard library alone, under ``PYTHONHASHSEED=0``. It is a fork server: each
batch is compiled by a child forked from a parent that has compiled nothing, because what an interpreter has
interned before shows in the bytes of later code. As many children run at once as there are processors.

Standard output starts with a line ``buildkit-pyc 1 TAG`` (TAG as in ``cpython-313``). Then frames, integers
big-endian: a request is id (4 bytes), length (4), and so many bytes of files: length of the path (4), of the
source (4), path, source. A reply is id (4), state (1: 0 done, 1 the child died), length (4), and for each file
in order: length (4) and the ``.pyc`` (PEP 552, unchecked hash); length 0 where the source does not compile.
"""

import sys

sys.path[:] = [entry for entry in sys.path if entry]  # nothing is imported from the working directory

import gc  # noqa: E402 - only now is the path clean
import importlib.util  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import struct  # noqa: E402
import warnings  # noqa: E402
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]  # noqa: E402

WORD = struct.Struct(">I")
REQUEST = struct.Struct(">II")
REPLY = struct.Struct(">IBI")


def compile_source(path: str, source: bytes) -> bytes:
    """The ``.pyc`` of ``source`` as it will lie at ``path``, or nothing where it does not compile."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        return bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), False))
    except Exception:  # noqa: BLE001 - whatever a template or a test's broken source makes of the compiler
        return b""


def compile_batch(payload: bytes) -> bytes:
    """All files of a request, in its order."""
    parts = []
    at = 0
    while at < len(payload):
        path_size, source_size = REQUEST.unpack_from(payload, at)
        at += REQUEST.size
        path = payload[at : at + path_size].decode("utf-8")
        at += path_size
        pyc = compile_source(path, payload[at : at + source_size])
        at += source_size
        parts += [WORD.pack(len(pyc)), pyc]
    return b"".join(parts)


def read_exactly(handle: int, size: int) -> bytes:
    """``size`` bytes, or fewer where the stream ends."""
    parts = []
    while size and (data := os.read(handle, min(size, 1 << 20))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def write_all(handle: int, data: bytes) -> None:
    """Every byte of ``data``."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def start_child(payload: bytes) -> tuple[int, int]:
    """A child at work on ``payload``: the pipe that its answer comes from, and its process id."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return reading, pid
    state = 1
    try:
        os.close(reading)
        write_all(writing, compile_batch(payload))
        state = 0
    finally:
        os._exit(state)


def serve(requests: int, replies: int, jobs: int) -> None:
    """Answer requests until their stream ends."""
    children: dict[int, tuple[int, int, list[bytes]]] = {}
    while True:
        waiting = [*children, *([requests] if requests >= 0 and len(children) < jobs else [])]
        if not waiting:
            return
        for handle in select.select(waiting, [], [])[0]:
            if handle == requests:
                head = read_exactly(requests, REQUEST.size)
                if len(head) < REQUEST.size:
                    requests = -1
                    continue
                number, size = REQUEST.unpack(head)
                reading, pid = start_child(read_exactly(requests, size))
                children[reading] = number, pid, []
            elif data := os.read(handle, 1 << 20):
                children[handle][2].append(data)
            else:
                number, pid, parts = children.pop(handle)
                os.close(handle)
                state = 1 if os.waitpid(pid, 0)[1] else 0
                answer = b"" if state else b"".join(parts)
                write_all(replies, REPLY.pack(number, state, len(answer)) + answer)


if __name__ == "__main__":
    if sys.flags.hash_randomization:
        sys.exit("PYTHONHASHSEED is not 0: the bytecode would not be reproducible")
    gc.disable()  # a child lives for one batch
    warnings.simplefilter("ignore")
    write_all(1, ("buildkit-pyc 1 %s\n" % sys.implementation.cache_tag).encode())  # noqa: UP031 - any Python
    serve(0, 1, len(os.sched_getaffinity(0)))
