"""GPUs that a component asks for in the resources of its container, as on a cluster."""

import re

from appliance.core.gpus import GpuRequest
from appliance.graph.problem import Problem
from appliance.graph.schema import Container

WHOLE = ("nvidia.com/gpu", "gpu")
PARTS = re.compile(r"nvidia\.com/mig-[\w.]+")
"""A part of a GPU in MIG mode; which profile is left to the box."""
MEMORY_MIB = "nvidia.com/gpumem"
MEMORY_PERCENT = "nvidia.com/gpumem-percentage"
"""Names under which GPUs are shared by amounts on clusters with HAMi."""
MIB = 1 << 20
DIGITS = 9


def read_gpus(container: Container, path: str) -> tuple[GpuRequest, list[Problem]]:
    """What the container asks for; limits count before requests. `path` is the container's, for problems."""
    problems: list[Problem] = []
    amounts = {name: (value, "requests") for name, value in container.resources.requests.items()}
    amounts |= {name: (value, "limits") for name, value in container.resources.limits.items()}
    numbers: dict[str, int] = {}
    for name, (value, where) in amounts.items():
        if is_gpu(name):
            number = _whole(value)
            if number is None:
                field = f"{path}.resources.{where}[{name}]"
                problems.append(Problem(field, f"must be a whole number of at least 0, not {value!r}"))
            numbers[name] = number or 0
    return _request(numbers), problems


def is_gpu(name: str) -> bool:
    """Whether a resource of this name is about GPUs that a box has."""
    return name in (*WHOLE, MEMORY_MIB, MEMORY_PERCENT) or PARTS.fullmatch(name) is not None


def _request(numbers: dict[str, int]) -> GpuRequest:
    count = max((number for name, number in numbers.items() if name in WHOLE), default=0)
    count += sum(number for name, number in numbers.items() if PARTS.fullmatch(name))
    memory, percent = numbers.get(MEMORY_MIB, 0), numbers.get(MEMORY_PERCENT, 0)
    if not count and not memory and not percent:
        return GpuRequest()
    return GpuRequest(
        count=count or 1,
        memory_bytes=memory * MIB if memory else None,
        memory_share=min(percent, 100) / 100 if percent else None,
    )


def _whole(value: object) -> int | None:
    if isinstance(value, float):
        return int(value) if value >= 0 and value == int(value) else None
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None
