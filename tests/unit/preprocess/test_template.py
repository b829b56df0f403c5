"""Chat templates: what Hugging Face templates rely on, and templates that must be stopped."""

import re
from copy import deepcopy
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.core.errors import ApplianceError, InvalidRequest, ModelFileBad
from appliance.preprocess.template import ChatTemplate
from appliance.preprocess.template_context import MeteredContext
from appliance.preprocess.template_limits import BoundedEnvironment
from tests.helpers.tokenizers import FOLDER

HI = [{"role": "user", "content": "Hi"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]}]


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>")


def test_demo_template() -> None:
    rendered = template((FOLDER / "chat_template.jinja").read_text()).render(HI)
    assert rendered == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}\n  {{ m.content }}\n{% endfor %}", "  Hi\n"),
        ("{{ bos_token }}{{ eos_token }}", "<s></s>"),
        ("{{ {'b': 'é<', 'a': [1]} | tojson }}", '{"b": "é<", "a": [1]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{% set ns = namespace(n=0) %}{% for m in [1,2,3] %}{% if m == 2 %}{% continue %}{% endif %}"
         "{% set ns.n = ns.n + m %}{% endfor %}{{ ns.n }}", "4"),
        ("{% for m in messages %}{% break %}{% endfor %}x", "x"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f('a') ~ f('b') }}", "[a][b]"),
        ("{% generation %}{{ messages[0]['content'] }}{% endgeneration %}", "Hi"),
        ("{{ messages[0]['content'][0:1] + 'x' * 3 }}", "Hxxx"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{% if tools is none %}none{% endif %}{{ documents is defined }}", "noneFalse"),
        ("{{ 'a-b'.split('-') | join('+') }}{{ 'x'.replace('x', 'y') }}{{ '%s!' % 'z' }}{{ '{}?'.format(1) }}",
         "a+byz!1?"),
        ("{% set x %}{{ 'in' }}{% endset %}{{ x | upper | indent(2) }}", "IN"),
        ("{% filter upper %}a{{ 'b' }}{% endfilter %}", "AB"),
        ("{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in{% endcall %}", "<in>"),
        ("{{ 2 ** 10 + 7 % 4 }}", "1027"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{{ loop.last }}{% endfor %}", "a1True"),
        ("{{ add_generation_prompt }}{{ mine }}", "Trueyes"),
    ],
)  # fmt: skip
def test_dialect(source: str, expected: str) -> None:
    assert template(source).render(HI, extra={"mine": "yes", "messages": "no"}) == expected


def test_content_parts_for_templates_of_both_kinds() -> None:
    text_only = template("{% for m in messages %}{{ m.content + '.' }}{% endfor %}")
    prints_anything = template("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert text_only.render(PARTS) == "Hi\nyou."
    assert prints_anything.render(PARTS) == "Hi\nyou"
    parts_only = template("{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}")
    assert parts_only.render(PARTS) == "<Hi><you>"
    assert parts_only.render(HI) == "<Hi>"
    both = template(
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}{% endfor %}"
    )
    assert both.render(HI) == "Hi"
    assert both.render(PARTS) == "<Hi><you>"


def test_missing_content_is_empty() -> None:
    shown = template("{% for m in messages %}{{ '[' + m.content + ']' }}{% endfor %}")
    assert shown.render([{"role": "assistant", "content": None}, {"role": "assistant"}]) == "[][]"


def test_refusal_and_failure_are_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest, match=r"refuses the messages: roles must alternate"):
        template("{{ raise_exception('roles must alternate') }}").render(HI)
    with pytest.raises(InvalidRequest, match="cannot show these messages"):
        template("{{ messages[7].content.x }}").render(HI)


@pytest.mark.parametrize("source", ["{% for %}", "{{ 'a }}", "{% endif %}", "{% unknown %}", "{{ 1 | nofilter }}"])
def test_wrong_templates_are_one_line(source: str) -> None:
    with pytest.raises(ModelFileBad, match=r"wrong in line 2: ") as caught:
        template("\n" + source)
    assert "\n" not in str(caught.value)


BIG = "{% set big = 'a' * 4000000 %}"
RUNAWAYS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% set __step__ = 1 %}{% set range = 1 %}{% for i in [0] * 4000000 %}{% endfor %}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ 10 ** (10 ** 7) }}",
    "{% set ns = namespace(x=2) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{{ 'x'.ljust(10 ** 9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=10 ** 9) }}",
    BIG + "{{ big.replace('a', big) | length }}",
    BIG + "{{ big | replace('a', big) | length }}",
    BIG + "{{ ([big] * 100000) | join | length }}",
    BIG + "{{ ''.join([big] * 100000) | length }}",
    BIG + "{{ (range(100000) | map('replace', '1', big) | list) | length }}",
    BIG + "{% for i in range(90000) %}{{ big | upper | length }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ 'b' in big }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{% set c = big[1:] %}{% endfor %}",
    BIG + "{% set c %}{% for i in range(90000) %}{{ big }}{% endfor %}{% endset %}",
    BIG + "{{ 'aaa' | wordwrap(1, true, big) }}",
    "{{ 'a' | center(10 ** 9) }}",
    "{{ ('\\n' * 1000000) | indent(100000) }}",
    "{{ [1] | batch(10 ** 9, 0) | list }}",
    "{{ [[0] * 1000000] * 1000 | sum(start=[]) }}",
    "{{ {'a': 1} | tojson(indent=10 ** 9) }}",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for i in range(9) if i < 3 recursive %}{{ loop(range(9)) }}{% endfor %}",
    "{% for i in range(9999) %}{% for c in '0' * 9999 %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(1, 9999) | select %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}{% for k, v in messages[0].items() %}{% for j in range(999) %}{% break %}"
    "{% endfor %}{% for j in range(999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% macro f() %}{% for i in range(99999) %}{% endfor %}{% endmacro %}{% for i in range(6) %}{{ f() }}{% endfor %}",
    "{% block b scoped %}{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}{% endblock %}",
    "{% for i in range(9999) %}{% block b scoped %}{% for j in range(9999) %}{% endfor %}{% endblock %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = 'a' + ns.x + ns.x + '' %}{% endfor %}",
    "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab' | e) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    BIG + "{{ big + big }}",
    BIG + "{% for i in range(90000) %}{% set c = big + i | string %}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ big == big[:] ~ '' }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ big in [big, 'b'] }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ big < 'b' }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ 'b' == 'b' in big }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ big.endswith('b') }}{% endfor %}",
    BIG + "{{ 'x'.ljust(-999999999999999) }}{% for i in range(90000) %}{% set c = big[1:] %}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ big is eq big[:] ~ '' }}{% endfor %}",
    BIG + "{% for i in range(90000) %}{{ big is lower }}{% endfor %}",
    BIG + "{{ range(90000) | map('string') | select('in', big) | list | length }}",
    BIG + "{% for i in range(90000) %}{% set c = (big | trim, big | wordcount, big | int) %}{% endfor %}",
    BIG + "{% for i in range(90000) %}{% set c = big | striptags %}{% endfor %}",
    BIG + "{% for i in range(90) %}{{ big | list | max }}{% endfor %}",
    "{% set r = range(90000) %}{% for i in range(90000) %}{{ r | max }}{% endfor %}",
    "{% set r = range(90000) %}{% for i in range(90000) %}{{ r | reject('eq', 1) | first }}{% endfor %}",
    "{% set r = range(9000) | list %}{{ r | select('in', r) | list | length }}",
    BIG + "{{ 'x' | center(-999999999999999) }}{% for i in range(90000) %}{% set c = big[1:] %}{% endfor %}",
]


@pytest.mark.parametrize("source", RUNAWAYS)
def test_runaways_are_stopped(source: str) -> None:
    with pytest.raises(InvalidRequest, match="was stopped"):
        template(source).render(HI)


@pytest.mark.parametrize("name", ["__step__", "__rounds__", "__size__", "__whole__", "__plus__"])
@pytest.mark.parametrize(
    "use", ["{{ -9 | %s(-9) }}", "{%% filter %s %%}{%% endfilter %%}", "{{ [-9] | map('%s') | list }}"]
)
def test_the_meters_own_filters_are_not_for_templates(name: str, use: str) -> None:
    with pytest.raises(ApplianceError, match=f"No filter named '{name}'"):
        template(use % name).render(HI)


def test_loops_may_go_through_what_they_do_not_print() -> None:
    """Rounds count as gone through, so that an early end or a test spares what comes behind."""
    early = "{% for i in range(99) %}{% for j in range(99999) %}{% break %}{% endfor %}{% endfor %}done"
    assert template(early).render(HI) == "done"
    fixed = "{% for i in range(90000) %}" + "x" * 60 + "{% endfor %}"  # longer than one value may be
    assert len(template(fixed).render(HI)) == 5_400_000
    tested = "{% for i in range(90000) if i < 3 %}" + "x" * 60_000 + "{% endfor %}"
    assert len(template(tested).render(HI)) == 180_000


def test_filters_may_go_through_all_that_there_is() -> None:
    source = "{{ messages | selectattr('role', 'eq', 'user') | map(attribute='content') | map('trim') | join(' ') }}"
    assert template(source).render([{"role": "user", "content": " a "}] * 3000) == " ".join("a" * 3000)
    assert template("{{ range(99999) | list | length }}").render(HI) == "99999"


def test_a_stopped_template_says_why() -> None:
    with pytest.raises(InvalidRequest, match="template was stopped: it goes through more than 500000 loop rounds"):
        template(RUNAWAYS[0]).render(HI)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% set x = messages.append(1) %}",
        "{% include 'x' %}",
        "{% import 'x' as x %}",
        "{% set x = messages[0].update({'role': 'x'}) %}",
        "{% set x = messages[0]['setdefault']('x', 1) %}",
        "{% set messages[0].role = 'x' %}",
        "{% set x = messages | map(attribute='clear') | list %}{{ x[0]() }}",
        "{{ (messages | map(attribute='role.format') | first)(messages) ~ ''.__add__ ~ ''['__class__'].x }}",
    ],
)
def test_nothing_leaves_the_sandbox(source: str) -> None:
    given = deepcopy(HI)
    with pytest.raises(ApplianceError):
        template(source).render(given)
    assert given == HI


def test_formats_show_no_inner_attributes() -> None:
    shown = template("{{ '{0.__class__}'.format(messages) }}{{ '{x.__class__}'.format_map({'x': 1}) }}").render(HI)
    assert shown == ""


def test_long_conversations_are_no_runaways() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "word " * 2000} for _ in range(400)]
    source = "{% set ns = namespace(t='') %}{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}"
    assert len(template(source).render(messages)) > 4_000_000


ORDINARY = [
    "{{ 'a' + x + 'b' + y + 'c' }}|{{ x + y }}|{{ 1 + n + 2 }}|{{ items + items + [0] }}",
    "{{ 'a' + n }}",
    "{{ n + 'a' + x }}",
    "{{ 'a' + missing }}",
    "{{ x + (y + 'c') + ('d' + x) }}|{{ (x + y) + 'c' }}",
    "{{ '<' + (x | e) + '>' }}|{{ (x | e) + '<' + '>' }}|{{ '<' + x | e }}",
    "{% autoescape true %}{{ '<' + x + '>' }}{{ '<b>' | safe + x }}{% endautoescape %}{{ '<' + x }}",
    "{{ x == 'x<' }}{{ 'x<' != x }}{{ x in ['x<', 'y'] }}{{ x not in ('y', 1) }}{{ items == 1 }}{{ 1 == 1.0 == true }}",
    "{{ missing == 'a' }}{{ missing in ['a'] }}{{ missing is defined }}",
    "{{ m.role }}|{{ m['role'] }}|{{ m.nothing }}|{{ m.items() | list }}|{{ m.get('role') }}|{{ m.keys() | list }}",
    "{{ x.strip('<').upper().split('X') }}{{ 'ab'.join(['1', '2']) }}{{ x.startswith('x') }}{{ x.nothing }}",
    "{{ x.join(items | map('string')) }}{{ '-'.join(m) }}{{ 'a\tb'.expandtabs(tabsize=2) }}",
    "{% for i in items %}{{ loop.index + n }}{{ loop.length }}{{ x.upper() }}{% else %}none{% endfor %}",
    "{% for i in items | map('string') %}{{ loop.length }}{{ loop.last }}{{ i }}{% endfor %}",
    "{% for i in items if i != 2 %}{{ loop.index }}{{ loop.length }}{{ i }}{% else %}none{% endfor %}",
    "{% for i in missing %}{{ i }}{% else %}none{% endfor %}{% for k, v in m.items() %}{{ k ~ v }}{% endfor %}",
    "{% for i in n %}{{ i }}{% endfor %}",
    "{% for i in [[1, [2]], 3] recursive %}{{ loop(i) if i is iterable else i }}{% endfor %}",
    "{% for c in x %}{{ c }}{{ loop.previtem }}{% endfor %}",
    "{% set a = x + y %}{% block one %}{{ a }}{{ self.two() }}{% endblock %}{% block two %}({{ x }}){% endblock %}",
    "{% for i in items %}{% block b scoped %}{{ i }}{{ x }}{% endblock %}{% endfor %}",
    "{% macro f(a, b=x) %}{{ a + b }}{{ caller() if caller }}{% endmacro %}{{ f('<') }}{% call f(y) %}in{% endcall %}",
    "{{ [x, y] | join('-') }}{{ x | replace('x', '<') }}{{ m | xmlattr }}{{ [3, 1] | sort | first }}{{ x | indent }}",
    "{% set ns = namespace(v=x) %}{% for i in items %}{% set ns.v = ns.v + '.' %}{% endfor %}{{ ns.v }}",
]


@pytest.mark.parametrize("source", ORDINARY)
def test_metering_changes_nothing_else(source: str) -> None:
    """Ordinary templates show, or fail with, what the sandbox of jinja2 alone makes of them."""
    variables: dict[str, Any] = {"x": "x<", "y": "y", "n": 7, "items": [1, 2, 3], "m": {"role": "user", "items": 1}}
    metered = template(source)
    reason = ""
    try:
        expected = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
        shown = expected.render(variables)
    except (TemplateError, TypeError) as error:
        reason = str(error)
    if reason:
        with pytest.raises(InvalidRequest, match=re.escape(reason) + "$"):
            metered.render(HI, extra=variables)
    else:
        assert metered.render(HI, extra=variables) == shown


@pytest.mark.parametrize("value", [{"role": "user", "content": "x"}, {}, "text", "", ["list"], 5, None])
def test_attributes_are_those_of_the_sandbox(value: Any) -> None:
    """All that a template can ask for by a dot, of a value of each kind."""
    ours, theirs = BoundedEnvironment(), ImmutableSandboxedEnvironment()
    for name in {*dir(value), *dir(str), *dir(dict), "role", "content", "nothing", "_hidden", "mro"}:
        got, wanted = ours.getattr(value, name), theirs.getattr(value, name)
        assert type(got) is type(wanted), name
        assert repr(got) == repr(wanted) or callable(wanted), name
        if type(wanted) is theirs.undefined:
            assert vars_of(got) == vars_of(wanted), name


def vars_of(undefined: Any) -> list[Any]:
    return [getattr(undefined, name) for name in type(undefined).__slots__]


def test_a_rendering_without_a_meter_fails() -> None:
    """Who forgets the meter gets no unmetered rendering."""
    made = BoundedEnvironment().from_string("{% for i in [1] %}{% endfor %}")
    with pytest.raises(AttributeError, match="meter"):
        made.render()
    assert isinstance(made.new_context(), MeteredContext)
