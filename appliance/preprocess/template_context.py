"""The variables of one rendering, with the meter that counts what it does."""

from functools import cached_property
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.utils import missing

from appliance.preprocess.template_meter import Meter


class MeteredContext(Context):
    """jinja2's context, quicker made: a rendering asks for few of its parts.

    A context is of no use before its `meter` is set: metered operations fail without one.
    `globals_keys` is left out, because only imports read it, and templates have nothing to import.
    """

    meter: Meter

    def __init__(
        self, environment: Any, parent: dict[str, Any], name: str | None, blocks: dict[str, Any], globals: Any = None
    ) -> None:
        """As jinja2 calls it; `parent` holds all variables and becomes the context's own."""
        self.parent = parent
        self.vars = {}
        self.environment = environment
        self.exported_vars = set()
        self.name = name
        self.blocks = {name: [block] for name, block in blocks.items()} if blocks else {}

    @cached_property
    def eval_ctx(self) -> nodes.EvalContext:  # type: ignore[override]  # an attribute there
        """Made when it is first asked for; only escaping, macros and some filters do."""
        return nodes.EvalContext(self.environment, self.name)

    def resolve_or_missing(self, key: str) -> Any:
        """A variable's value, or jinja2's sign that there is none."""
        if self.vars and key in self.vars:
            return self.vars[key]
        return self.parent.get(key, missing)

    def derived(self, locals: dict[str, Any] | None = None) -> "MeteredContext":
        """A context with further variables that counts on the same meter."""
        context = super().derived(locals)
        assert isinstance(context, MeteredContext)
        context.meter = self.meter
        return context
