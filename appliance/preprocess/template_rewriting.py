"""Rewrites a parsed template so that it counts what it does, by filters that `template_limits` defines.

What takes a time that the template's own length bounds is not counted: texts written in it, and whether something
equals one of them.
"""

from typing import Any

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

from appliance.preprocess.template_meter import MACRO_ROUNDS

STEP, ROUNDS, SIZE, WHOLE, PLUS = "__step__", "__rounds__", "__size__", "__whole__", "__plus__"
"""Filters that the rewriting adds. A template can hide a function by a variable, but never a filter."""
OURS = frozenset({STEP, ROUNDS, SIZE, WHOLE, PLUS})
MADE, MADE_AND_SHOWN = 1, 2
"""How often `PLUS` charges the text that it makes."""
EQUALITY, MEMBERSHIP = frozenset({"eq", "ne"}), frozenset({"in", "notin"})


class Metering(NodeTransformer):
    """One rewriting of one template. Raises `TemplateAssertionError` when the template uses our filters itself."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """A loop's rounds are counted at once where all of them will be gone through, and else one by one."""
        if node.test is not None:
            counted = self._counted(node, 0)
            node.test = nodes.And(self._step(node, 1, 0), node.test)
            return counted
        if node.recursive or node.find(nodes.Break) is not None:
            return self._counted(node, 1)
        fixed = self._const(node, _fixed_chars(node))
        self.generic_visit(node)
        node.iter = self._filter(node.iter, ROUNDS, fixed)
        return node

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

    def visit_Add(self, node: nodes.Add) -> nodes.Node:
        """`a + b + c` as one operation, which need not make `a + b`, nor look at the texts that the template wrote."""
        terms: list[nodes.Expr] = []
        left: nodes.Expr = node
        while isinstance(left, nodes.Add):
            terms.append(left.right)
            left = left.left
        terms.append(left)
        terms.reverse()
        texts = [term.value if isinstance(term, nodes.Const) and type(term.value) is str else None for term in terms]
        fixed = self._const(node, sum(len(text) for text in texts if text is not None))
        others = self._const(node, tuple(place for place, text in enumerate(texts) if text is None))
        return self._filter(self._const(node, MADE), PLUS, fixed, others, *(self.visit(term) for term in terms))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        brief = _is_brief(node)
        self.generic_visit(node)
        if not brief:
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
        step = self._step(node, rounds, _fixed_chars(node))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node  # type: ignore[no-any-return]  # three node classes that share only `body`

    def _step(self, node: nodes.Node, rounds: int, chars: int) -> nodes.Expr:
        return self._filter(self._const(node, rounds), STEP, self._const(node, chars))

    def _body_only(self, node: Any) -> nodes.Node:
        """A block whose own filter has no inner value and cannot be wrapped; its text is charged as it is printed."""
        node.body = [self.visit(child) for child in node.body]
        return node  # type: ignore[no-any-return]

    def _sized(self, node: nodes.Expr) -> nodes.Node:
        return self._filter(self.generic_visit(node), SIZE)

    def _charged(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, (nodes.TemplateData, nodes.Const)):
            return node
        if isinstance(node, nodes.Filter) and node.name == PLUS:
            node.node = self._const(node, MADE_AND_SHOWN)
            return node
        return self._filter(node, WHOLE)

    def _filter(self, node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
        made = nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
        made.set_environment(self._environment)
        return made

    def _const(self, node: nodes.Node, value: int | tuple[int, ...]) -> nodes.Const:
        return nodes.Const(value, lineno=node.lineno)


def _fixed_chars(node: nodes.Node) -> int:
    return sum(len(data.data) for data in node.find_all(nodes.TemplateData))


def _is_brief(node: nodes.Compare) -> bool:
    """Whether a comparison takes no longer than its own text: something equals a constant, or is one of some."""
    if len(node.ops) != 1:
        return False
    operator, right = node.ops[0].op, node.ops[0].expr
    if operator in EQUALITY:
        return isinstance(node.expr, nodes.Const) or isinstance(right, nodes.Const)
    if operator in MEMBERSHIP and isinstance(right, (nodes.List, nodes.Tuple)):
        return all(isinstance(item, nodes.Const) for item in right.items)
    return False
