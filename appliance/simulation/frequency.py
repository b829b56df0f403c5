"""How often things were seen, about: counts in little memory that fade, as TinyLFU keeps them."""

ROWS = 4
SLOTS = 1 << 14
"""Per row; a power of two, several times as many as there are things to tell apart."""
MOST = 15
"""A count goes no higher, so that what was frequent long ago can be overtaken."""
FADES_AFTER = 10 * SLOTS
"""Counts are halved each time that so many were added."""

_MASK = (1 << 64) - 1
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
"""Odd and unlike each other: one for each row."""
_SHIFT = 64 - (SLOTS.bit_length() - 1)
_HALVED = bytes(value // 2 for value in range(256))


class FrequencySketch:
    """Counts of 64-bit keys. Never too low but for fading; too high when keys collide in every row."""

    def __init__(self) -> None:
        self._rows = [bytearray(SLOTS) for _ in range(ROWS)]
        self._added = 0

    def add(self, key: int) -> int:
        """Count a key once more; its count now."""
        places = self._places(key)
        counts = [row[place] for row, place in zip(self._rows, places, strict=True)]
        lowest = min(counts)
        if lowest < MOST:
            for row, place, count in zip(self._rows, places, counts, strict=True):
                if count == lowest:  # higher ones are shared with other keys and know more than enough
                    row[place] = count + 1
            lowest += 1
        self._added += 1
        if self._added == FADES_AFTER:
            self._added = 0
            self._rows = [row.translate(_HALVED) for row in self._rows]
            lowest //= 2
        return lowest

    def count(self, key: int) -> int:
        """How often a key was added, as far as it is still known."""
        return min(row[place] for row, place in zip(self._rows, self._places(key), strict=True))

    @staticmethod
    def _places(key: int) -> list[int]:
        return [(key * multiplier & _MASK) >> _SHIFT for multiplier in _MULTIPLIERS]
