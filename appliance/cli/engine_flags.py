"""Flags that say how a model is run; `serve` and `worker` share them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from appliance.roles.options import ENGINES

F = TypeVar("F", bound=Callable[..., Any])


def engine_flags(function: F) -> F:
    """The flags of `worker` that `serve` has too: engine, its arguments, served name, context, task, parsers."""
    for option in reversed(
        (
            click.option(
                "--engine", type=click.Choice(ENGINES), default="auto", show_default=True, help="Engine to use."
            ),
            click.option(
                "--engine-url", metavar="URL", help="Server of the engine `remote`, or of one that runs already."
            ),
            click.option("--engine-arg", "engine_args", multiple=True, metavar="K=V", help="Setting of the engine."),
            click.option("--served-model-name", metavar="NAME", help="Name that clients use.  [default: the file's]"),
            click.option("--context-length", type=click.IntRange(min=1), metavar="TOKENS", help="Prompt plus output."),
            click.option("--task", type=click.Choice(("generate", "embed")), help="Generate text or embed it."),
            click.option(
                "--tool-call-parser",
                metavar="NAME",
                help="Format of tool calls in the model's output, `auto` or `none`.  [default: auto]",
            ),
            click.option(
                "--reasoning-parser",
                metavar="NAME",
                help="Format of reasoning in the model's output, `auto` or `none`.  [default: auto]",
            ),
        )
    ):
        function = option(function)
    return function


def parse_engine_args(pairs: Sequence[str], url: str | None = None) -> dict[str, str]:
    """`K=V` texts as a dict, and the URL as `url`. Raises `click.UsageError`."""
    found = {} if url is None else {"url": url}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--engine-arg {pair!r} must have the form K=V")
        found[key] = value
    return found
