"""What each setting means: the text under its field in `core/settings.py`, which the executable carries as a file."""

import ast
import functools
from pathlib import Path

from appliance.core import settings


@functools.cache
def setting_docs() -> dict[str, str]:
    """Meaning by key `group.name`, one line each; empty when the source file is not there."""
    try:
        tree = ast.parse(Path(settings.__file__).with_suffix(".py").read_text())
    except OSError:
        return {}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    groups = {name: type(value).__name__ for name, value in vars(settings.Settings()).items()}
    return {
        f"{group}.{field}": text for group, name in groups.items() for field, text in _field_docs(classes[name]).items()
    }


def _field_docs(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
