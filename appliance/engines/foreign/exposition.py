"""Single labels out of a server's metrics. Pure."""

import re

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def labels_of(metrics: bytes, name: str) -> dict[str, str]:
    """The labels of the first sample of a metric; empty when there is none."""
    for line in metrics.decode("utf-8", "replace").splitlines():
        if line.startswith(f"{name}{{"):
            return dict(_LABEL.findall(line))
    return {}


def whole_number(text: object) -> int:
    """A positive whole number, or zero for anything else."""
    try:
        return max(int(str(text)), 0)
    except ValueError:
        return 0
