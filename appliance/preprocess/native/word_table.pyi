from collections.abc import Sequence
from typing import final

@final
class WordTable:
    """What `appliance.preprocess.word_table.WordTable` says holds here. Raises `MemoryError`; what was known stays.

    `TypeError` for ids that are no plain ints. Of words whose hashes collide more than a hundred times some are not
    kept, and adding them does nothing.
    """

    def find(
        self, text: str, ends: WordTable, /
    ) -> list[int] | tuple[str | None, list[Sequence[int] | str], str | None] | None: ...
    def add(self, part: str, ids: Sequence[int], /) -> None: ...
    def __len__(self) -> int: ...
