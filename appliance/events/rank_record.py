"""What one data-parallel rank of a worker has said of its cache: numbered events, the recent ones, the whole picture.

Pure. Ids count from 1; 0 means that nothing was said yet.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, KvReply, ReplyForm
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.prefix_index import new_index

KEPT_EVENTS = 10_000
KEPT_BLOCKS = 100_000  # about 10 MB; an engine that reports whole prompts at once needs this bound, not the other
PIECE_BLOCKS = 2048  # of an answer; a front end applies that many in about 3 ms, between the steps of its streams

_SELF = Holder(WorkerId(""))


class RankRecord:
    """Takes a rank's events in order and answers what came after one of them."""

    def __init__(self, *, kept_events: int = KEPT_EVENTS, kept_blocks: int = KEPT_BLOCKS) -> None:
        self.newest_id = 0
        self.unfounded = 0
        """Events about blocks, or after parents, that the rank had not stored before."""
        self._kept_events, self._kept_blocks = kept_events, kept_blocks
        self._recent: deque[KvEvent] = deque()
        self._recent_blocks = 0
        self._index = new_index()

    def __len__(self) -> int:
        """Blocks that the rank holds, over all tiers."""
        return len(self._index)

    def add(self, event: KvEvent) -> bool:
        """Number an event and remember it. False: it makes no sense, and nobody may hear of it."""
        try:
            outcome = self._index.apply(_SELF, event)
        except InvalidRequest:
            return False
        self.unfounded += outcome is not Outcome.APPLIED
        self.newest_id += 1
        self._recent.append(event)
        self._recent_blocks += block_count(event)
        while len(self._recent) > self._kept_events or (self._recent_blocks > self._kept_blocks and self._recent):
            self._recent_blocks -= block_count(self._recent.popleft())
        return True

    def answer(self, start_id: int | None) -> list[KvReply]:
        """The events from `start_id` on; the whole picture without a start and when it is no longer remembered."""
        if start_id is None or not self.newest_id:
            return self._tree()
        if start_id < 1:
            return [KvReply(ReplyForm.INVALID_RANGE, self.newest_id)]
        if start_id > self.newest_id:
            return [KvReply(ReplyForm.TOO_NEW, self.newest_id)]
        skipped = start_id - (self.newest_id - len(self._recent)) - 1
        if skipped < 0:
            return self._tree()
        return self._replies(ReplyForm.EVENTS, start_id, islice(self._recent, skipped, None))

    def _tree(self) -> list[KvReply]:
        return self._replies(ReplyForm.TREE, 0, (event for _, event in self._index.dump()))

    def _replies(self, form: ReplyForm, first_id: int, events: Iterable[KvEvent]) -> list[KvReply]:
        pieces = list(_pieces(events)) or [[]]
        replies = []
        for number, piece in enumerate(pieces, 1):
            replies.append(KvReply(form, self.newest_id, first_id, piece, last=number == len(pieces)))
            first_id += len(piece) if form is ReplyForm.EVENTS else 0
        return replies


def block_count(event: KvEvent) -> int:
    """Blocks that an event names."""
    return 0 if isinstance(event, ClearedBlocks) else len(event.block_ids)


def _pieces(events: Iterable[KvEvent]) -> Iterator[list[KvEvent]]:
    """Runs of events with few blocks each, at least one event in each."""
    piece: list[KvEvent] = []
    size = 0
    for event in events:
        if piece and size + block_count(event) > PIECE_BLOCKS:
            yield piece
            piece, size = [], 0
        piece.append(event)
        size += 1 + block_count(event)
    if piece:
        yield piece
