"""What is recognised, but not read: loaders run code in it, or it is an archive that may hold anything.

Both are findings, not gaps: whatever the setting for files that cannot be scanned says, nobody has looked at what these
would do. Content that is merely unknown is a gap, unless its name says that such a loader is meant for it.
"""

from __future__ import annotations

from buildkit.findings import Rule, Severity

CODE = Rule(
    id="unread-code-format",
    title="A format whose loader runs code, and which this scanner does not read",
    severity=Severity.HIGH,
    why="Loading such a file creates objects of any class, or runs code in it. What this one does is not known.",
    advice="Get the model in a format that can be scanned (safetensors, ONNX), or inspect it and accept it.",
    references=("CWE-502",),
)
ARCHIVE = Rule(
    id="unread-archive",
    title="An archive or a compression that this scanner does not read",
    severity=Severity.MEDIUM,
    why="What is in it was not scanned, and may be anything: malicious models have been hidden in such archives.",
    advice="Unpack it, scan its files, and ship these.",
    references=("CVE-2025-1889",),
)

PICKLE_NAMES = ("pkl", "pickle", "pck", "pcl", "joblib", "dill", "cloudpickle")
_PICKLE = "a pickle, or holds one"
_PROGRAM = "a program or a library"
_NAMES = {
    CODE: {
        _PICKLE: f"{' '.join(PICKLE_NAMES)} pt pth ckpt npy npz pdparams pdopt",
        "a Keras model": "keras h5 hdf5",
        "a model of Torch7": "t7",
        "a program of Paddle": "pdmodel",
        "an object of R": "rds rda rdata",
        "a serialized object of Java": "ser",
        "a serialized object of Julia": "jls",
        "a TensorRT engine": "engine trt",
        _PROGRAM: "so dll dylib exe pyc pyd class dex wasm",
    },
    ARCHIVE: {
        "an archive": "7z rar zip tar tgz tbz txz ace arj lzh lha cab cpio iso dmg wim zpaq zoo sit xar",
        "compressed": "gz bz2 xz lzma zst lz4 br lz lzo z sz snappy",
    },
}
_BY_SUFFIX = {
    suffix: (rule, what)
    for rule, kinds in _NAMES.items()
    for what, listed in kinds.items()
    for suffix in listed.split()
}


def find_kind_of_name(path: str, member: str) -> tuple[Rule, str] | None:
    """Return what the name of unknown content says, as rule and description; None if it says nothing.

    ``member`` is the path into archives. The content of a compressed stream, which has no name, has that of the file.
    """
    names = [path, *member.split("!")] if member else [path]
    last = names[-1].lower()
    if len(names) > 1 and "." not in last and "@" not in last:
        outer, code = names[-2].lower(), _find(names[-2].lower())
        return _find(outer.rpartition(".")[0]) or (code if code and code[0] is CODE else None)
    return _find(last)


def _find(name: str) -> tuple[Rule, str] | None:
    return _BY_SUFFIX.get(name.rpartition(".")[2]) if "." in name else None
