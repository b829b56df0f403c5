"""Chat templates: what Hugging Face templates rely on, and templates that must be stopped."""

from typing import Any

import pytest

from appliance.core.errors import ApplianceError, InvalidRequest, ModelFileBad
from appliance.preprocess.template import ChatTemplate
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
]


@pytest.mark.parametrize("source", RUNAWAYS)
def test_runaways_are_stopped(source: str) -> None:
    with pytest.raises(InvalidRequest, match="was stopped"):
        template(source).render(HI)


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
    ],
)
def test_nothing_leaves_the_sandbox(source: str) -> None:
    with pytest.raises(ApplianceError):
        template(source).render(HI)


def test_long_conversations_are_no_runaways() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "word " * 2000} for _ in range(400)]
    source = "{% set ns = namespace(t='') %}{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}"
    assert len(template(source).render(messages)) > 4_000_000
