"""Bounds of single numbers in a body, checked while it is read."""

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_args

import msgspec

from appliance.core.errors import InvalidRequest

Body = TypeVar("Body", bound=msgspec.Struct)

SMALLEST = 5e-324
"""As a lower bound it means: above zero."""


class Bounds(NamedTuple):
    """A number that, when given, lies between two values, both allowed."""

    param: str
    low: float
    high: float

    def complaint(self, value: float) -> str:
        low = "above 0" if self.low == SMALLEST else f"at least {self.low}"
        return f"{self.param} must be {low} and at most {self.high}, not {value}"


def bounded(kind: type[Body], bounds: Iterable[Bounds]) -> type[Body]:
    """The kind of body whose decoder takes only numbers within the bounds."""
    members = {field.name: field for field in msgspec.structs.fields(kind)}
    fields = [_field(members[bound.param], bound) for bound in bounds]
    return cast("type[Body]", msgspec.defstruct(kind.__name__, fields, bases=(kind,), kw_only=True))


def _field(member: msgspec.structs.FieldInfo, bound: Bounds) -> tuple[str, Any, Any]:
    within: Any = Annotated[_number(member.type), msgspec.Meta(ge=bound.low, le=bound.high)]
    return (member.name, within if member.required else within | None, member.default)


def _number(kind: Any) -> type:
    """What a member is when it is given."""
    return float if float in (kind, *get_args(kind)) else int


def check_bounds(body: msgspec.Struct, bounds: Iterable[Bounds]) -> None:
    """Raise `InvalidRequest` for the first bound that the body breaks."""
    for bound in bounds:
        value = getattr(body, bound.param)
        if value is not None and not bound.low <= value <= bound.high:
            raise InvalidRequest(bound.complaint(value), param=bound.param)
