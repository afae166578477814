"""Python source, by Python's own parser and in the encoding that it declares (PEP 263); nothing is compiled or run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import is_dangerous, word_set

PYTHON = Rule(
    id="python-source",
    title="Python source among model files",
    severity=Severity.MEDIUM,
    why="Loaders with `trust_remote_code` run it, and so does the import of a `handler` or `modeling` file.",
    advice="Read it; keep necessary code with the application, not with the weights.",
)
_MOST = 2**20
_COOKIE = re.compile(rb"(?:[ \t\f]*(?:#[^\r\n]*)?\r?\n)?[ \t\f]*#[^\r\n]*?coding[:=][ \t]*([-\w.]+)")
_WORTH = re.compile(  # what no source lacks that acts; other text is not parsed
    rb"import|exec|eval|compile|open|attr|globals|locals|vars|breakpoint|input|builtins|frame|modules|__|[\x80-\xff]"
    rb"|\b(?:os|sys|posix|nt|subprocess|shutil|socket|ctypes|pickle|marshal|runpy|pty)\."
)
_BUILTINS = word_set(
    "exec eval compile open getattr setattr delattr globals locals vars breakpoint input "
    "__import__ __builtins__ __loader__ __spec__"
)
_INTERNALS = word_set(
    "__class__ __base__ __bases__ __mro__ __subclasses__ __globals__ __builtins__ __import__ __code__ __closure__ "
    "__self__ __func__ __getattribute__ __reduce__ __reduce_ex__ __loader__ __spec__ __init_subclass__ f_globals "
    "f_builtins f_back gi_frame cr_frame ag_frame tb_frame"
)


def check(context: ScanContext, content: bytes) -> bool:
    """Report Python source that imports or reaches something; return whether the content is known to be Python or not.

    Content whose name or first lines declare it as Python, and that does not parse, is a gap.
    """
    cookie = _COOKIE.match(content)
    declared = cookie is not None or (context.member or context.path).endswith((".py", ".pyw"))
    if len(content) > _MOST or not (cookie or _WORTH.search(content)):
        if declared and len(content) > _MOST:
            context.gap(f"Python source of more than {_MOST} bytes")
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the source, about its escapes and comparisons
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        if declared:
            context.gap(f"Python source that Python cannot parse: {quote(str(error))}")
        return False
    found = next(_find(tree), None)
    if found is not None:
        how = f" in the encoding {quote(cookie[1])}" if cookie and cookie[1].lower() not in (b"utf-8", b"utf8") else ""
        node, severity = found
        context.find(PYTHON, f"it is Python source{how} that has {quote(ast.unparse(node), 60)}", severity=severity)
    return found is not None


def _find(tree: ast.Module) -> Iterator[tuple[ast.AST, Severity | None]]:
    """Yield what tells Python source from text that happens to parse; hidden ways to builtins first."""
    nodes = list(ast.walk(tree))
    idle = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # a word on a line of its own
    idle |= {id(node.annotation) for node in nodes if isinstance(node, ast.AnnAssign)}  # `key: word`
    acts = any(isinstance(node, ast.Call) or getattr(node, "decorator_list", ()) for node in nodes)
    acts = acts or any(isinstance(node, ast.ClassDef) and node.keywords for node in nodes)  # a metaclass is called
    for node in nodes:
        if acts and isinstance(node, ast.Attribute) and node.attr in _INTERNALS:
            yield node, Severity.HIGH
        elif acts and isinstance(node, ast.Name) and node.id in _BUILTINS and id(node) not in idle:
            yield node, Severity.HIGH if node.id.startswith("__") else None
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_foreign(node):
            yield node, None


def _is_foreign(node: ast.AST) -> bool:
    """Return whether a function of a module is called that runs programs or accesses files."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    while isinstance(owner, ast.Attribute | ast.Subscript):
        owner = owner.value
    return isinstance(owner, ast.Name) and owner.id != "torch" and is_dangerous(owner.id)
