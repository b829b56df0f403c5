"""An environment for chat templates that can neither leave the sandbox nor keep busy without bound.

A template comes with a model file and is a program. The sandbox of jinja2 keeps it from reaching Python, not from
looping or from building a string of a terabyte. So the parsed template is rewritten before it is compiled
(`template_rewriting`): loops and macros count their rounds, and what is printed, filtered, called for, sliced or
compared is charged by its size. What could make a large value in one go is checked before it runs (`template_meter`).
"""

from collections.abc import Callable, Iterator
from types import BuiltinMethodType
from typing import Any

from jinja2 import TemplateAssertionError, TemplateRuntimeError, nodes, pass_context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.preprocess.template_context import MeteredContext
from appliance.preprocess.template_meter import FILTER_CHECKS, TEST_CHECKS, Meter, check_operation, check_text_method
from appliance.preprocess.template_rewriting import MADE, OURS, PLUS, ROUNDS, SIZE, STEP, WHOLE, Metering

NAMES_OF_DICT = frozenset(dir(dict))
_EMPTY: dict[str, Any] = {}
SIZED = frozenset({list, tuple, dict, str, range, *map(type, (_EMPTY.keys(), _EMPTY.values(), _EMPTY.items()))})
"""Types whose length says how many rounds a loop over them has."""
FORMATTING = frozenset({"format", "format_map"})
"""Methods of texts that reach attributes of their arguments, so that the sandbox has its own."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates are metered: they render with a `MeteredContext` that has its meter."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    context_class = MeteredContext

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals.pop("lipsum", None)  # makes any amount of text
        self.filters |= {STEP: _step, ROUNDS: _rounds, SIZE: _size, WHOLE: _whole, PLUS: _plus}
        names = [name for name in dir(str) if name not in FORMATTING]
        self._text_methods = frozenset(name for name in names if self.is_safe_attribute("", name, getattr("", name)))

    def bound_filters(self) -> None:
        """Put the checks in front of the filters and tests that need them. Call it when all filters are set."""
        for name, check in FILTER_CHECKS.items():
            self.filters[name] = _checked(self.filters[name], check)
        tests: dict[str, Any] = self.tests  # what jinja2 says of them is no type
        for name, check in TEST_CHECKS.items():
            tests[name] = _checked(tests[name], check)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        for used in source.find_all(nodes.Filter):
            if used.name in OURS:
                raise TemplateAssertionError(f"No filter named {used.name!r}.", used.lineno)
        return super()._generate(Metering(self).visit(source), *args, **kwargs)

    def call_filter(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a filter that a template names by a value."""
        if name in OURS:
            raise TemplateRuntimeError(f"No filter named {name!r}.")
        return super().call_filter(name, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do an intercepted operation after its check."""
        check_operation(context.meter, operator, left, right)
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As the sandbox does it; members of messages and methods of texts, nearly all that is asked for, at once."""
        kind = type(obj)
        if kind is dict and attribute not in NAMES_OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if kind is str and attribute in self._text_methods:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function; methods of texts are checked first."""
        if type(__obj) is BuiltinMethodType and type(__obj.__self__) is str:
            return _call_text_method(__context.meter, __obj, args, kwargs)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            args = _without_iterators(args)
            check_text_method(__context.meter, owner, method.__name__, [*args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)


def _call_text_method(meter: Meter, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    kwargs.pop("_loop_vars", None)  # what jinja2 adds to all calls
    kwargs.pop("_block_vars", None)
    args = _without_iterators(args)
    check_text_method(meter, method.__self__, method.__name__, [*args, *kwargs.values()])
    return method(*args, **kwargs)


def _without_iterators(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Lists instead of iterators, so that checks can look at them."""
    return tuple([list(arg) if hasattr(arg, "__next__") else arg for arg in args])


@pass_context
def _step(context: MeteredContext, rounds: int, chars: int) -> bool:
    context.meter.step(rounds, chars)
    return True


@pass_context
def _rounds(context: MeteredContext, members: Any, chars: int) -> Any:
    """What a loop goes through, all of it counted."""
    if type(members) not in SIZED:
        return _one_by_one(context.meter, members, chars)
    rounds = len(members)
    context.meter.step(rounds, chars * rounds)
    return members


def _one_by_one(meter: Meter, members: Any, chars: int) -> Iterator[Any]:
    for member in members:
        meter.step(1, chars)
        yield member


@pass_context
def _size(context: MeteredContext, value: Any) -> Any:
    if isinstance(value, (str, list, tuple, dict)):
        context.meter.charge(len(value))
    return value


@pass_context
def _whole(context: MeteredContext, value: Any) -> Any:
    if type(value) is str:
        context.meter.charge(len(value))
    else:
        context.meter.charge_whole(value)
    return value


@pass_context
def _plus(context: MeteredContext, times: int, fixed: int, others: tuple[int, ...], *terms: Any) -> Any:
    """The sum from left to right. Texts, nearly all that templates add, are joined without the sums in between.

    `others` are the places of terms that are no texts of `fixed` characters in all, written in the template.
    """
    size = fixed
    for place in others:
        term = terms[place]
        if type(term) is not str:
            return _plus_one_by_one(context, times, *terms)
        size += len(term)
    context.meter.charge(size, times)
    return "".join(terms)


def _plus_one_by_one(context: MeteredContext, times: int, total: Any, *terms: Any) -> Any:
    for term in terms:
        total = context.environment.call_binop(context, "+", total, term)  # type: ignore[attr-defined]  # is ours
    if times > MADE:
        context.meter.charge_whole(total)
    return total


def _checked(filter_: Callable[..., Any], check: Callable[[Meter, list[Any]], None]) -> Callable[..., Any]:
    """A filter or test that is checked before it runs."""
    wants = getattr(filter_, "jinja_pass_arg", None)  # jinja2 marks filters that want to know where they are

    @pass_context
    def run(context: MeteredContext, *args: Any, **kwargs: Any) -> Any:
        known = _without_iterators(args)
        check(context.meter, [*known, *kwargs.values()])
        if wants is None:
            return filter_(*known, **kwargs)
        return filter_(_place(context, wants.name), *known, **kwargs)

    return run


def _place(context: MeteredContext, kind: str) -> Any:
    """What jinja2 hands to filters that want to know where they are."""
    if kind == "context":
        return context
    return context.eval_ctx if kind == "eval_context" else context.environment
