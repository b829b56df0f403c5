"""Renders a model's chat template: jinja2 as Hugging Face uses it, in a bounded sandbox."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from appliance.core.errors import ApplianceError, InvalidRequest, ModelFileBad
from appliance.preprocess.messages import Message, flatten_all, split_all
from appliance.preprocess.template_context import MeteredContext
from appliance.preprocess.template_limits import BoundedEnvironment
from appliance.preprocess.template_meter import Meter, TemplateRunaway

PROBE = "probe-of-content"
Messages = Sequence[Message]


class ChatTemplate:
    """One compiled template. Rendering is synchronous and may be done from several threads at once."""

    def __init__(self, source: str, *, bos_token: str, eos_token: str) -> None:
        """Compile the template. Raises `ModelFileBad` with the line number when it is no valid template."""
        self._environment = environment = BoundedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        environment.bound_filters()
        try:
            template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ModelFileBad(f"the model's chat template is wrong in line {error.lineno}: {error.message}") from None
        except (TemplateError, RecursionError, SyntaxError) as error:
            raise ModelFileBad(f"the model's chat template cannot be compiled: {_first_line(error)}") from None
        self._write, self._blocks = template.root_render_func, template.blocks
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._globals = {**template.globals, **self._tokens}
        self._shape = self._find_shape()

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt text for a conversation. `extra` are further template variables; they never replace messages.

        The messages are not changed. Raises `InvalidRequest` with one line when the template refuses the messages,
        fails on them or does not end.
        """
        variables = {**self._globals, "add_generation_prompt": add_generation_prompt}
        if extra:
            variables |= {**extra, **self._tokens}
        variables["tools"] = list(tools) if tools else None
        try:
            return self._run(variables, self._shape(messages))
        except ApplianceError:
            raise
        except TemplateRunaway as error:
            raise InvalidRequest(f"the model's chat template was stopped: {error}", param="messages") from None
        except TemplateRefusal as error:
            raise InvalidRequest(f"the model's chat template refuses the messages: {error}", param="messages") from None
        except RecursionError:
            raise InvalidRequest("the model's chat template was stopped: it calls itself too often") from None
        except Exception as error:  # a template is a program of others and can raise anything
            reason = _first_line(error)
            raise InvalidRequest(
                f"the model's chat template cannot show these messages: {reason}", param="messages"
            ) from None

    def _run(self, variables: dict[str, Any], messages: Messages) -> str:
        """Call the compiled template itself: what jinja2 does around it takes longer than a short prompt."""
        variables["messages"] = messages
        context = MeteredContext(self._environment, variables, None, self._blocks)
        context.meter = Meter([messages, variables["tools"]])
        return "".join(self._write(context))

    def _find_shape(self) -> Callable[[Messages], Messages]:
        """How this template wants a message's content: tried out, since templates do not say."""
        takes_text, takes_parts = self._takes_content(PROBE), self._takes_content([{"type": "text", "text": PROBE}])
        if takes_parts:
            return list if takes_text else split_all
        return flatten_all

    def _takes_content(self, content: Any) -> bool:
        """Whether a message with this content shows the text in it, and not the data structure around."""
        try:
            shown = self._run(
                {**self._globals, "add_generation_prompt": True, "tools": None}, [{"role": "user", "content": content}]
            )
        except Exception:  # whatever the template does not like about it
            return False
        return PROBE in shown and "'type'" not in shown and '"type"' not in shown


class TemplateRefusal(Exception):
    """What a template's `raise_exception` raises; the text is the template's own."""


class _GenerationBlock(Extension):
    """The block that marks a model's own words for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 -- as the base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: Any) -> None:
    raise TemplateRefusal(_first_line(message))


def _strftime_now(format_: str) -> str:
    return datetime.now().strftime(format_[:200])


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates expect it: characters as they are, keys in their order, no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _first_line(error: object) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__
