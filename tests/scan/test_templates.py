"""Chat templates: Jinja itself, with a recorder in place of its sandbox, shows what a template would reach."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from buildkit.findings import Severity
from buildkit.scan import ScanLimits, Verdict
from buildkit.scan.formats.templates.parser import make_environment, parse_template
from buildkit.scan.formats.templates.sinks import Sinks
from tests.scan.craft import safetensors
from tests.scan.formatmaker import gguf, rules, scan_bytes, worst

USED = {
    "messages": [{"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "string"}}}}}],
    "bos_token": "__class__",
    "additional_special_tokens": ["__class__"],
    "add_generation_prompt": True,
    "strftime_now": lambda text: text,
    "raise_exception": lambda text: text,
}


class Generation(Extension):
    """The tag by which transformers marks the assistant's text."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def reached(template: str, *, by: Sequence[type[Extension]] = ()) -> set[str]:
    """Render with a recorder: which attributes does Jinja's sandbox refuse? Nothing unsafe is ever taken."""
    found: set[str] = set()

    class Recorder(SandboxedEnvironment):
        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            safe = super().is_safe_attribute(obj, attr, value)
            if not safe:
                found.add(attr)
            return safe

    names = ["jinja2.ext.loopcontrols", "jinja2.ext.do", *by]
    with suppress(TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        Recorder(trim_blocks=True, lstrip_blocks=True, extensions=names).from_string(template).render(**USED)
    return found


ESCAPES = [
    # the field cases
    "{% set u='a_b'[1] %}{{ messages[u~u~'class'~u~u] }}",
    "{{ messages['%c'%95 ~ '%c'%95 ~ 'class' ~ '%c%c'%(95, 95)] }}",
    "{{ messages['class'.center(9,'_')] }}",
    # texts
    "{{ messages['-class-'.replace('-', '_' * 2)] }}",
    "{{ messages['{0}{0}class{0}{0}'.format('_')] }}",
    "{{ messages['{u}class{u}'.format(u='_' ~ '_')] }}",
    "{{ messages['%(u)sclass%(u)s' % {'u': '__'}] }}",
    "{{ messages['%sclass%s'|format('__', '__')] }}",
    "{{ messages['x__class__x'[1:-1]] }}",
    "{{ messages['__ssalc__'[::-1]] }}",
    "{{ messages[' __class__ '.strip()] }}",
    "{{ messages['__CLASS__'|lower] }}",
    "{{ messages['__CLASS__'.casefold()] }}",
    "{{ messages['class'.ljust(7, '_').rjust(9, '_')] }}",
    "{{ messages['_ _class_ _'.split()|join] }}",
    "{{ messages[['_', '_', 'class', '_', '_']|join] }}",
    "{{ messages['__class__'|list|join] }}",
    "{{ messages['__class__'|string|trim] }}",
    "{{ messages[('__ssalc__'|list)[::-1]|join] }}",
    "{{ messages['class'|center(9)|replace(' ', '_')] }}",
    "{{ messages[('_', '_class_', '_')|join('')] }}",
    "{{ messages['%s' % '__class__'] }}",
    "{{ messages[''.join(['__', 'class__'])] }}",
    "{{ messages[dict(__class__=1)|list|first] }}",
    "{{ messages[dict(a='__cl', b='ass__').values()|join] }}",
    "{{ messages[{'a': '_'}.a ~ '_class_' ~ {'a': '_'}['a']] }}",
    "{{ messages[({'__': 1}|first) ~ 'class__'] }}",
    "{{ messages['__class__ x'|truncate(9, true, '', 0)] }}",
    "{{ messages['__class__ x'|wordwrap(9)|replace('x', '')|trim] }}",
    "{{ messages[['__class__']|min] }}",
    "{{ messages[['a', '__class__']|last] }}",
    "{{ messages[['__class__']|map('lower')|first] }}",
    "{{ messages[['__CLASS__']|map('lower')|list|join] }}",
    "{{ messages[['__class__']|random] }}",
    "{{ messages['__class__' if messages else 'role'] }}",
    "{{ messages[false or '__class__'] }}",
    "{{ messages[missing|default('__class__')] }}",
    "{{ messages['__cl' ~ missing ~ 'ass__'] }}",
    "{{ messages[messages[0].role[:0] ~ '__cl' ~ 'ass__'] }}",
    "{{ messages[messages[0].role|replace('user', '_') ~ '_class__'] }}",
    "{{ messages[('__class__',)[0]] }}",
    "{{ messages[\"\\x5f\\x5fclass\\137\\u005f\"] }}",
    # variables, loops, namespaces, macros
    "{% set a = '_' %}{% set b = a ~ a %}{{ messages[b ~ 'class' ~ b] }}",
    "{% set ns = namespace(u='_') %}{{ messages[ns.u * 2 ~ 'class' ~ ns.u * 2] }}",
    "{% set ns = namespace() %}{% set ns.u = '__' %}{{ messages[ns['u'] ~ 'class__'] }}",
    "{% set ns = namespace({'u': '__'}) %}{{ messages[ns.u ~ 'class__'] }}",
    "{% set ns = namespace(t='') %}{% for c in '__class__' %}{% set ns.t = ns.t ~ c %}{% endfor %}{{ messages[ns.t] }}",
    "{% set n = namespace(t='') %}{% for c in '__class__' %}{% set n.t = n.t + c %}{% endfor %}{{ messages[n.t] }}",
    "{% macro gi_frame() %}{% endmacro %}{{ (['a']|map('upper'))[gi_frame.name] }}",
    "{% macro m(gi_frame) %}{% endmacro %}{{ (['a']|map('upper'))[m.arguments[0]] }}",
    "{% set n = namespace(gi_frame=1) %}{{ (['a']|map('upper'))[(n|string)[13:21]] }}",
    "{% set n = namespace(gi_frame=1) %}{{ (['a']|map('upper'))[('' ~ n)[13:21]] }}",
    "{% set s = self %}{% block b %}__class__{% endblock %}{{ messages[s.b()] }}",
    "{% macro m(x) %}__{{ x }}__{% endmacro %}{{ messages[m('class')] }}",
    "{% macro m() %}{{ '_' }}{% endmacro %}{{ messages[m() ~ '_class_' ~ m()] }}",
    "{% macro m() %}__{% endmacro %}{% set f = m %}{{ messages[f() ~ 'class' ~ f()] }}",
    "{% macro m() %}{{ varargs|join }}{% endmacro %}{{ messages[m('__', 'class', '__')] }}",
    "{% macro m() %}{{ kwargs.values()|join }}{% endmacro %}{{ messages[m(a='__', b='class__')] }}",
    "{% macro m() %}{{ messages[caller()] }}{% endmacro %}{% call m() %}__class__{% endcall %}",
    "{% macro m() %}{{ caller('__') }}{% endmacro %}{% call(u) m() %}{{ messages[u ~ 'class__'] }}{% endcall %}",
    "{% set x %}__{% endset %}{{ messages[x ~ 'class' ~ x] }}",
    "{% set x | replace('-', '_') %}--class--{% endset %}{{ messages[x] }}",
    "{% with u = '__' %}{{ messages[u ~ 'class' ~ u] }}{% endwith %}",
    "{% for u in ['__'] %}{{ messages[u ~ 'class' ~ u] }}{% endfor %}",
    "{% for k, v in [('__', 'class')] %}{{ messages[k ~ v ~ k] }}{% endfor %}",
    "{% for k, v in {'__': 'class'}.items() %}{{ messages[k ~ v ~ k] }}{% endfor %}",
    "{% for i in range(1) %}{{ messages[loop.cycle('__', 'a') ~ 'class__'] }}{% endfor %}",
    "{% set c = cycler('__class__', 'a') %}{{ messages[c.next()] }}",
    "{% set j = joiner('__class__') %}{{ j() }}{{ messages[j()] }}",
    "{% set l = [] %}{% set _ = l.append('__') %}{% set _ = l.append('class__') %}{{ messages[l|join] }}",
    "{% set l = [] %}{% do l.append('__class__') %}{{ messages[l[0]] }}",
    "{% set l = [] %}{% set k = l %}{% do k.extend(['__', 'class__']) %}{{ messages[l|join] }}",
    "{% set d = {} %}{% do d.update({'a': '__class__'}) %}{{ messages[d.a] }}",
    "{% block b %}__class__{% endblock %}{{ messages[self.b()] }}",
    "{{ messages[strftime_now('__class__')] }}",
    "{{ messages[strftime_now('__') ~ strftime_now('class__')] }}",
    # whole names that the tokenizer's special tokens bring
    "{{ messages[bos_token] }}",
    "{% for t in additional_special_tokens %}{{ messages[t] }}{% endfor %}",
    "{{ messages[additional_special_tokens[0]] }}",
    "{% if false %}{% set bos_token = 'q' %}{% endif %}{{ messages[bos_token] }}",
    "{{ messages[bos_token] }}{% set bos_token = 'q' %}",
    "{% for i in [] %}{% set bos_token = 'q' %}{% endfor %}{{ messages[bos_token|trim] }}",
    # attributes by other ways
    "{{ ['a'.upper, messages]|map(attribute='__cla' ~ 'ss__')|list }}",
    "{{ [messages]|map(attribute='0.__class__')|list }}",
    "{{ [messages]|selectattr('__class__')|list }}",
    "{{ [messages]|groupby('__class__')|list }}",
    "{{ [messages]|sort(attribute='__class__') }}",
    "{{ [messages]|sum(attribute='__class__') }}",
    "{{ [messages]|join('', attribute='__class__') }}",
    "{{ [messages]|max(attribute='__class__') }}",
    "{{ [messages]|unique(attribute='__class__')|list }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ ('{0.__cla' ~ 'ss__}').format(messages) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    # what is given or called in other ways
    "{% for c in ['gi_frame', 'a'] %}{{ (['a']|map('upper'))[loop.previtem] }}{% endfor %}",
    "{% for c in ['a', 'gi_frame'] %}{{ (['a']|map('upper'))[loop['nextitem']] }}{% endfor %}",
    "{% for c in ['a', 'gi_frame'] %}{% set l = loop %}{{ (['a']|map('upper'))[l.nextitem] }}{% endfor %}",
    "{% macro m(x, y) %}{{ (['a']|map('upper'))[y] }}{% endmacro %}{{ m('a', *['gi_frame']) }}",
    "{% macro m(x, y) %}{{ (['a']|map('upper'))[y] }}{% endmacro %}{{ m('a', **{'y': 'gi_frame'}) }}",
    "{% set n = namespace(**{'u': 'gi_frame'}) %}{{ (['a']|map('upper'))[n.u] }}",
    "{{ [['a']|map('upper')]|map(**{'attribute': 'gi_frame'})|list }}",
    "{{ '{0.gi_frame}'['format'](['a']|map('upper')) }}",
    "{% set f = '{0.gi_frame}'.format %}{{ f(['a']|map('upper')) }}",
    "{{ (['{0.gi_frame}']|map(attribute='format')|first)(['a']|map('upper')) }}",
    "{% set f = ['{0.gi_frame}']|map(attribute='format')|first %}{{ f(['a']|map('upper')) }}",
    # no underscore at the beginning
    "{{ (['a']|map('upper')).gi_frame }}",
    "{{ (['a']|map('upper'))['gi_' ~ 'frame'] }}",
    "{{ (['a']|map('upper'))['edoc_ig'|reverse] }}",
]  # fmt: skip


@pytest.mark.parametrize("template", ESCAPES)
def test_template_that_reaches_an_unsafe_attribute_is_found(template: str) -> None:
    assert reached(template), "the template has to do what it is here for"
    for content in carriers(template):
        assert worst(content) >= Severity.HIGH, content
        assert rules(content) <= {"jinja-escape", "jinja-reach", "python-source"}  # some are sets of sets in Python


def carriers(template: str) -> Iterator[bytes]:
    yield template.encode()
    yield json.dumps({"chat_template": template, "bos_token": "<s>"}).encode()
    yield gguf({"general.alignment": 32, "tokenizer.chat_template": template})
    yield safetensors(chat_template=template)


ESCAPES_BY_CALL = [
    "{{ messages|attr(name) }}",
    "{{ [messages]|map('attr', name)|list }}",
    "{{ [messages]|map('at' ~ 'tr', name)|list }}",
    "{{ [messages]|map(name, other)|list }}",
    "{{ messages[0][messages[0].role]('id') }}",
    "{% set f = messages[0][messages[0].role] %}{{ f('id') }}",
    "{{ lipsum|string }}",
    "{{ cycler|string }}",
    "{{ messages[0].content.format(messages) and lipsum }}",
    "{% extends name %}",
    "{% include ['a', 'b'] ignore missing %}",
    "{% filter attr('x') %}{% endfilter %}",
    "{% unknown x.__class__ %}",
    "{% generation %}{{ x.__class__ }}{% endgeneration %}",
    "{% trans a=x.__class__ %}{{ a }}{% endtrans %}",
]


@pytest.mark.parametrize("template", ESCAPES_BY_CALL)
def test_template_with_other_ways_out_is_found(template: str) -> None:
    for content in carriers(template):
        assert worst(content) >= Severity.HIGH, content


ENDLESS = [
    "{% for a in range(9999999) %}{% for b in range(9999999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    "{% set r = range(9999) %}{% for a in r %}{% for b in r|list %}x{% endfor %}{% endfor %}",
    "{% set r=range(999) %}{% for a in r %}{% for b in r|list %}{% for c in '12'%}{% endfor %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10000000 }}",
    "{{ 10000000 * 'x' }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 9 ** 99999999 }}",
    "{{ 'x'.center(10 ** 9) }}",
    "{{ 'x'.zfill(999999999) }}",
    "{{ 'x'|center(999999999) }}",
    "{{ messages|tojson|indent(99999999) }}",
    "{{ range(10 ** 12)|list }}",
    "{{ range(10 ** 30) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[0]) %}{% for m in messages %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
]


@pytest.mark.parametrize("template", ENDLESS)
def test_endless_work_is_found(template: str) -> None:
    for content in carriers(template):
        assert "jinja-burden" in rules(content)


def test_many_findings_of_one_rule_hide_none_of_another() -> None:
    burdens = "".join(f"{{{{ 'x' * {10**7 + at} }}}}\n" for at in range(30))
    found = scan_bytes(f"{burdens}{{{{ x|attr(y) }}}}{{{{ x[y ~ '_'] }}}}".encode())
    assert {"jinja-burden", "jinja-reach"} <= {one.rule.id for one in found.findings}


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if x %}" * 3000 + "{% endif %}" * 3000,
        "{{ x" + "|trim" * 5000 + " }}",
        "{{ 1" + " + 1" * 5000 + " }}",
    ],
    ids=["brackets", "ifs", "filters", "sums"],
)
def test_deep_template_is_not_clean(template: str) -> None:
    assert scan_bytes(template.encode()).verdict is Verdict.PARTIAL


def test_template_that_jinja_refuses_is_a_gap_where_it_must_be_one() -> None:
    broken = "{% for m in messages %}{{ m.content }"
    for content in (
        json.dumps({"chat_template": broken}).encode(),
        json.dumps({"chat_template": [{"name": "default", "template": broken}]}).encode(),
        gguf({"tokenizer.chat_template": broken}),
    ):
        assert scan_bytes(content).verdict is Verdict.PARTIAL
    assert scan_bytes(b"A text about {% for and {{ that is no template.").verdict is Verdict.CLEAN


# Parts that assemble names; a part is an expression, a text between them an operator.
_ATOMS = st.sampled_from(
    ["'_'", "'__'", "'a_b'[1]", "'%c'%95", "'_'*2", "u", "ns.u", "m()", "['_','x']|first", "'-'|replace('-','_')",
     "missing", "'x_'[-1]", "('_' if messages else 'x')", "dict(_=1)|first", "messages[0].content[:0]", "bos_token[0]",
     "'{}'.format('_')", "'_ '.strip()", "('__'|list)[0]", "{'k':'_'}.k", "strftime_now('_')"]
)  # fmt: skip
_MIDDLES = st.sampled_from(["'class'", "'CLASS'|lower", "'ssalc'[::-1]", "'cla'~'ss'", "'xclass'[1:]", "k"])
_SINKS = st.sampled_from(["{{ messages[NAME] }}", "{{ [messages]|map(attribute=NAME)|list }}",
                          "{{ messages|attr(NAME) }}",
                          "{% set n = NAME %}{{ messages[n] }}", "{% for n in [NAME] %}{{ messages[n] }}{% endfor %}",
                          "{% set n %}{{ NAME }}{% endset %}{{ messages[n] }}",
                          "{% macro t(n) %}{{ messages[n] }}{% endmacro %}{{ t(NAME) }}"])  # fmt: skip
_BEFORE = "{% set u = '_' %}{% set k = 'class' %}{% set ns = namespace(u='_') %}{% macro m() %}_{% endmacro %}"


@patch.object(Sinks, "texts", lambda *_: None)  # the net beneath: well-known names anywhere
@settings(max_examples=150, deadline=None)
@given(st.lists(_ATOMS, min_size=1, max_size=3), _MIDDLES, st.lists(_ATOMS, min_size=1, max_size=3), _SINKS)
def test_no_assembled_name_that_jinja_reaches_is_missed(
    before: list[str], middle: str, after: list[str], sink: str
) -> None:
    name = " ~ ".join(f"({part})" for part in [*before, middle, *after])
    template = _BEFORE + sink.replace("NAME", f"({name})")
    if reached(template):
        assert worst(template.encode()) >= Severity.HIGH, template


_WORDS = st.sampled_from(["messages", "'__class__'", "'_'", "[", "]", "~", "|first", "|join", "(", ")", "*2", "[1]",
                          ".upper()", ".format(1)", "if x", "else", "%c", "95", "%", "1", ",", "'class'", "u",
                          "{{", "}}"])  # fmt: skip


@patch.object(Sinks, "texts", lambda *_: None)  # the net beneath: well-known names anywhere
@settings(max_examples=150, deadline=None)
@given(st.lists(_WORDS, max_size=14).map(" ".join))
def test_no_random_expression_that_reaches_is_missed(expression: str) -> None:
    template = _BEFORE + "{{ " + expression + " }}"
    if reached(template):
        assert worst(template.encode()) >= Severity.HIGH, template


_PIECES = st.one_of(
    st.sampled_from(
        ["{{", "}}", "{%", "%}", "{#", "#}", "-%}", "{%-", "}}}", "{{-", "-}}", "{%+", "'", '"', "\\", "|", "~"]
    ),
    st.sampled_from(
        ["{", "}", "(", ")", "[", "]", ".", ",", "=", "==", "**", "\n", "1", "'s'", "a", "x", "__b__", "upper"]
    ),
    st.sampled_from(
        ["raw", "endraw", "is", "not", "in", "if", "else", "set", "do", "for", "recursive", "endif", "endfor"]
    ),
    st.sampled_from(["include", "ignore", "missing", "with", "import", "from", "as", "context", "true", "print"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=14), st.sampled_from(["%s", "{{ %s }}", "{%% %s %%}"]))
def test_what_jinja_parses_is_parsed_the_same(pieces: list[str], around: str) -> None:
    text = around % " ".join(pieces)
    ours = make_environment()
    plain = Environment(trim_blocks=True, lstrip_blocks=True, extensions=list(ours.extensions))
    try:
        expected = plain.parse(text)
    except TemplateError:
        return
    assert parse_template(ours, text) == expected


SAMPLES = sorted((Path(__file__).parent / "samples" / "templates").glob("*.jinja"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_template_of_well_known_kind_is_clean(path: Path) -> None:
    template = path.read_text("utf-8")
    assert reached(template, by=(Generation,)) == set()
    for content in carriers(template):
        found = scan_bytes(content)
        assert (found.findings, found.gaps) == ((), ())


@pytest.mark.parametrize(
    "content",
    [
        b"{{ a['x' ~ b] ~ c.d }}" * 15_000,
        b"{{ 'a' }}" * 50_000,
        json.dumps([f"{{{{ {number} }}}}" for number in range(300)]).encode(),
    ],
    ids=["steps", "blocks", "texts"],
)
def test_more_than_is_followed_is_a_gap(content: bytes) -> None:
    assert scan_bytes(content, ScanLimits(templates=200)).verdict is Verdict.PARTIAL
