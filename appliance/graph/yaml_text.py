"""YAML text to plain JSON values and back; every error is one line with file, line and column."""

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from appliance.core.errors import Unprocessable

SIZE_LIMIT_BYTES = 3 << 20  # what an API server takes in one request
NODE_LIMIT = 200_000  # values after aliases are followed: stops a small file that unfolds into gigabytes
STRING, MERGE, TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("str", "merge", "timestamp"))


def load_yaml(text: str, source: str) -> Iterator[tuple[Any, int]]:
    """Values of the non-empty documents with the 1-based lines they start at. JSON is YAML too.

    Raises `Unprocessable` for broken YAML, a repeated key, a key that is no text, a text or an unfolding too large.
    """
    if len(text.encode(errors="replace")) > SIZE_LIMIT_BYTES:
        raise Unprocessable(f"{source}: larger than {SIZE_LIMIT_BYTES >> 20} MiB")
    try:
        yield from _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Unprocessable(f"{source}{place}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise Unprocessable(f"{source}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise Unprocessable(f"{source}: nested too deeply") from error


def render_yaml(document: dict[str, Any]) -> str:
    """A document as YAML, members in their order."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which dates stay texts, as they do in an API server."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _load(text: str) -> Iterator[tuple[Any, int]]:
    loader = _Loader(text)
    while loader.check_node():
        node = loader.get_node()
        if node is None:
            continue
        _check(node)
        value = loader.construct_document(node)
        if value is not None:
            # Through JSON: aliases become copies, and nothing is left that a store could not hold.
            yield msgspec.json.decode(msgspec.json.encode(value)), node.start_mark.line + 1


def _check(root: yaml.Node) -> None:
    """Refuse what the plain loader would take silently; runs before merge keys are resolved."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise _problem(node, "an alias refers to itself")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            _check_keys(node)
            sizes[id(node)] = 1 + sum(size(child) for child in _children(node))
            open_nodes.discard(id(node))
        return sizes[id(node)]

    if size(root) > NODE_LIMIT:
        raise _problem(root, f"more than {NODE_LIMIT} values")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.Node) -> None:
    seen: set[str] = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.tag == MERGE:
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != STRING:
            raise _problem(key, "a key must be a text; put it in quotes")
        if key.value in seen:
            raise _problem(key, f"the key {key.value!r} is repeated")
        seen.add(key.value)


def _problem(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
