"""A jinja2 sandbox that a chat template can neither leave nor keep busy without bound.

A template comes with a model file and is a program. The sandbox of jinja2 keeps it from reaching Python, not from
looping or from building a string of a terabyte. So the parsed template is rewritten before it is compiled: loops and
macros count their rounds, and what is printed, filtered, called for, sliced or compared is charged by its size. What
could make a large value in one go is checked before it runs (`template_meter`).
"""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from appliance.preprocess.template_meter import (
    FILTER_CHECKS,
    MACRO_ROUNDS,
    METER,
    Meter,
    check_operation,
    check_text_method,
)

STEP, SIZE, WHOLE = "__step__", "__size__", "__whole__"
"""Filters that the rewriting adds. A template can hide a function by a variable, but never a filter."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates are metered; `METER` must be set while one of them renders."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals.pop("lipsum", None)  # makes any amount of text
        self.filters |= {STEP: _step, SIZE: _size, WHOLE: _whole}

    def bound_filters(self) -> None:
        """Put the checks in front of the filters that need them. Call it when all filters are set."""
        for name, check in FILTER_CHECKS.items():
            self.filters[name] = _checked(self.filters[name], check)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_Metering(self).visit(source), *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do an intercepted operation after its check."""
        if operator == "+" and type(left) is str and type(right) is str:  # nearly all that templates do
            METER.get().charge(len(left) + len(right))
            return left + right
        check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function; methods of texts are checked first."""
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `format`
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            args = tuple(list(arg) if hasattr(arg, "__next__") else arg for arg in args)
            check_text_method(owner, method.__name__, [*args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)


def _step(_: Any, rounds: int, chars: int) -> str:
    METER.get().step(rounds, chars)
    return ""


def _size(value: Any) -> Any:
    if isinstance(value, (str, list, tuple, dict)):
        METER.get().charge(len(value))
    return value


def _whole(value: Any) -> Any:
    if type(value) is str:
        METER.get().charge(len(value))
    else:
        METER.get().charge_whole(value)
    return value


def _checked(filter_: Callable[..., Any], check: Callable[[Meter, list[Any]], None]) -> Callable[..., Any]:
    """A filter that is checked before it runs; iterators are made lists, so that the check can look at them."""
    own = 1 if hasattr(filter_, "jinja_pass_arg") else 0  # jinja passes such filters its environment or context first

    def run(*args: Any, **kwargs: Any) -> Any:
        known = [list(arg) if hasattr(arg, "__next__") else arg for arg in args]
        check(METER.get(), [*known[own:], *kwargs.values()])
        return filter_(*known, **kwargs)

    if own:
        run.jinja_pass_arg = filter_.jinja_pass_arg  # type: ignore[attr-defined]  # how jinja marks its functions
    return run


class _Metering(NodeTransformer):
    """Rewrites a parsed template so that it counts what it does."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._counted(node, 1)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._counted(node, MACRO_ROUNDS)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        call = node.call
        node.call = nodes.Call(nodes.Const(None), [], [], None, None)  # spared, because it must stay a call
        self._counted(node, MACRO_ROUNDS)
        node.call = call
        self.generic_visit(call)
        return node

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.Node:
        return self._body_only(node)

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        return self._body_only(node)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        return self._sized(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        return self._sized(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return self._sized(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        return self._sized(node) if isinstance(node.arg, nodes.Slice) else self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = self._charged(node.expr)
        for operand in node.ops:
            operand.expr = self._charged(operand.expr)
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [self._charged(child) for child in node.nodes]
        return node

    def _counted(self, node: Any, rounds: int) -> nodes.Node:
        """A body that counts each round, and the fixed text that a round prints."""
        fixed = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        nothing, *counts = (nodes.Const(value, lineno=node.lineno) for value in (None, rounds, fixed))
        step = self._filter(nothing, STEP, *counts)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node  # type: ignore[no-any-return]  # three node classes that share only `body`

    def _body_only(self, node: Any) -> nodes.Node:
        """A block whose own filter has no inner value and cannot be wrapped; its text is charged as it is printed."""
        node.body = [self.visit(child) for child in node.body]
        return node  # type: ignore[no-any-return]

    def _sized(self, node: nodes.Expr) -> nodes.Node:
        return self._filter(self.generic_visit(node), SIZE)

    def _charged(self, node: nodes.Expr) -> nodes.Expr:
        fixed = isinstance(node, (nodes.TemplateData, nodes.Const))
        return node if fixed else self._filter(node, WHOLE)

    def _filter(self, node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
        made = nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
        made.set_environment(self._environment)
        return made
