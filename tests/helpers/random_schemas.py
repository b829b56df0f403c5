"""Random JSON schemas of which every conforming document is short, so that a small model can finish one."""

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
NAMES = ("name", "größe", 'quo"te', "a b", "list", "tags", "id", "x-1")
CONSTANTS: tuple[Any, ...] = (None, True, 0, -1.5, "", "two words", 'q"\\', "☃", [1, None], {"a": {}})
PATTERNS = ("^[a-f]{2,4}$", "^(yes|no)$", r"^\d\d:\d\d$", "^x?y{1,3}$")


class SchemaSource:
    """Schemas by chance; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def schema(self) -> Schema:
        """A whole document's schema, sometimes with a definition that it refers to."""
        body = self._any(3)
        if self._random.random() < 0.3:
            body = {
                "type": "object",
                "properties": {"first": {"$ref": "#/$defs/shared"}, "second": {"$ref": "#/$defs/shared"}, "rest": body},
                "required": ["first", "rest"],
                "additionalProperties": False,
                "$defs": {"shared": self._any(1)},
            }
        return body

    def _any(self, depth: int) -> Schema:
        leaves: list[Callable[[], Schema]] = [
            self._integer,
            self._number,
            self._string,
            self._enum,
            self._const,
            self._simple,
        ]
        nodes = [self._object, self._object, self._array, self._choice]
        if depth == 0 or self._random.random() < 0.3:
            return self._random.choice(leaves)()
        return self._random.choice(nodes)(depth - 1)

    def _object(self, depth: int) -> Schema:
        names = self._random.sample(NAMES, self._random.randint(0, 4))
        return {
            "type": "object",
            "properties": {name: self._any(depth) for name in names},
            "required": [name for name in names if self._random.random() < 0.6],
            "additionalProperties": False,
        }

    def _array(self, depth: int) -> Schema:
        low = self._random.randint(0, 2)
        array = {
            "type": "array",
            "items": self._any(depth),
            "minItems": low,
            "maxItems": low + self._random.randint(0, 2),
        }
        if self._random.random() < 0.2:
            array |= {"prefixItems": [self._any(0)], "minItems": 1, "maxItems": 3}
        return array

    def _choice(self, depth: int) -> Schema:
        return {"anyOf": [self._any(depth) for _ in range(self._random.randint(2, 3))]}

    def _integer(self) -> Schema:
        low = self._random.randint(-2000, 2000)
        return self._random.choice(
            (
                {"type": "integer", "minimum": low, "maximum": low + self._random.randint(0, 5000)},
                {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + 2},
            )
        )

    def _number(self) -> Schema:
        low = self._random.randint(-50, 50)
        return {"type": "number", "minimum": low, "maximum": low + self._random.randint(1, 200)}

    def _string(self) -> Schema:
        low = self._random.randint(0, 3)
        return self._random.choice(
            (
                {"type": "string", "minLength": low, "maxLength": low + self._random.randint(0, 5)},
                {"type": "string", "pattern": self._random.choice(PATTERNS)},
                {"type": "string", "format": self._random.choice(("date", "time", "uuid"))},
            )
        )

    def _enum(self) -> Schema:
        return {"enum": self._random.sample(CONSTANTS, self._random.randint(1, 4))}

    def _const(self) -> Schema:
        return {"const": self._random.choice(CONSTANTS)}

    def _simple(self) -> Schema:
        return self._random.choice(({"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}))
