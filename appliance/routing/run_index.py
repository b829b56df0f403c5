"""The prefix index in Python, of runs of blocks. Twin of `native_index`, and in use where that was not built."""

from array import array
from collections.abc import Iterator, Mapping, Sequence

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.routing.block_hash import LocalHash
from appliance.routing.block_ids import BlockIds
from appliance.routing.index_dump import dump
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.overlap import NO_OVERLAPS, Overlaps, score, shared_blocks
from appliance.routing.runs import BLOCK_BYTES, MAX_BLOCKS, Run, common_blocks

_FREE = Holder(WorkerId(""), -1)


class RunIndex:
    """A `PrefixIndex`; its docstrings say what the operations do."""

    def __init__(self) -> None:
        self._roots: dict[bytes, Run] = {}
        self._ids = BlockIds()
        self._numbers: dict[Holder, int] = {}
        self._names: list[Holder] = []
        self._counts: list[list[int]] = []
        """Blocks by holder number and tier."""

    def apply(self, holder: Holder, event: KvEvent) -> Outcome:
        """Do what an event of a holder says."""
        match event:
            case StoredBlocks():
                return self.store(holder, event.block_ids, event.local_hashes, event.parent, event.tier)
            case RemovedBlocks():
                return self.remove(holder, event.block_ids, event.tier)
            case ClearedBlocks():
                self.clear(holder.worker)
                return Outcome.APPLIED

    def find_matches(self, local_hashes: Sequence[LocalHash]) -> Overlaps:
        """How many blocks from the first on each holder has, per tier."""
        if not self._roots:
            return NO_OVERLAPS  # with workers that all speak of their caches, or none, one index of two is empty
        return score(self._path(local_hashes), self._names)

    def shared_blocks(self, local_hashes: Sequence[LocalHash]) -> int:
        """How many blocks from the first on somebody has on disk."""
        return shared_blocks(self._path(local_hashes))

    def _path(self, local_hashes: Sequence[LocalHash]) -> list[tuple[Run, int]]:
        query = array("Q", local_hashes).tobytes()
        path = []
        children: Mapping[bytes, Run] = self._roots
        at = 0
        while run := children.get(query[at : at + BLOCK_BYTES]):
            if not query.startswith(run.locals, at):
                path.append((run, common_blocks(query[at : at + len(run.locals)], run.locals)))
                break
            path.append((run, len(run.locals) // BLOCK_BYTES))
            at += len(run.locals)
            children = run.children
        return path

    def store(
        self,
        holder: Holder,
        block_ids: Sequence[int],
        local_hashes: Sequence[int],
        parent: int | None = None,
        tier: Tier = Tier.DEVICE,
    ) -> Outcome:
        """A holder has these blocks in a tier."""
        ids, wanted = _packed(block_ids), _packed(local_hashes)
        if len(ids) != len(wanted):
            raise InvalidRequest(f"cannot store {len(block_ids)} blocks with {len(local_hashes)} local hashes")
        run, at = None, 0
        if parent is not None:
            number = self._numbers.get(holder)
            place = None if number is None else self._ids.locate(number, parent)
            if place is None:
                return Outcome.PARENT_UNKNOWN
            run, at = place[0], place[1] + 1
        number = self._number(holder)
        done = 0
        while done < len(wanted):
            run, at, count = self._step(run, at, wanted[done:], ids[done:])
            self._mark(number, tier, run, at, count)
            self._claim(number, tier, run, at, ids[done : done + count * BLOCK_BYTES])
            at += count
            done += count * BLOCK_BYTES
        return Outcome.APPLIED

    def remove(self, holder: Holder, block_ids: Sequence[int], tier: Tier = Tier.DEVICE) -> Outcome:
        """A holder no longer has these blocks in a tier."""
        number = self._numbers.get(holder)
        unknown = False
        for block_id in block_ids:
            place = None if number is None else self._ids.locate(number, block_id)
            if number is None or place is None or not self._unmark(number, tier, *place):
                unknown = True
                continue
            self._forget_if_gone(number, *place)
        return Outcome.BLOCK_UNKNOWN if unknown else Outcome.APPLIED

    def clear(self, worker: WorkerId, rank: int | None = None) -> None:
        """Forget all that a worker has."""
        gone = [holder for holder in self._numbers if holder.worker == worker and rank in (None, holder.rank)]
        numbers = [self._numbers.pop(holder) for holder in gone]
        for number in numbers:
            self._names[number] = _FREE
            self._counts[number] = [0] * len(Tier)
            self._ids.forget_holder(number)
        runs = list(self._ids.runs())
        for run in runs:
            whole = run.whole
            for cover in run.covers:
                for number in numbers:
                    cover.assign(number, 0, whole)
        for run in runs:
            self._trim(run)

    def block_counts(self) -> dict[Holder, tuple[int, ...]]:
        """Blocks of each holder by tier."""
        return {holder: tuple(self._counts[number]) for holder, number in self._numbers.items()}

    def kept(self) -> int:
        """Different blocks."""
        return sum(run.count for run in self.runs())

    def dump(self) -> Iterator[tuple[Holder, KvEvent]]:
        """Everything as events."""
        return dump(self)

    def __len__(self) -> int:
        """Entries over all holders and tiers."""
        return sum(map(sum, self._counts))

    def runs(self) -> Iterator[Run]:
        """All runs, those before a run before it. To read only."""
        pending = list(self._roots.values())
        while pending:
            run = pending.pop()
            yield run
            pending.extend(run.children.values())

    def numbers(self) -> dict[Holder, int]:
        """The number of each holder in the sets of the runs. To read only."""
        return self._numbers

    def ids_of(self, number: int, run: Run, count: int) -> list[int]:
        """What a holder calls the first blocks of a run, or would if it had them."""
        return self._ids.names(number, run, count)

    def _number(self, holder: Holder) -> int:
        number = self._numbers.get(holder)
        if number is not None:
            return number
        if _FREE in self._names:
            number = self._names.index(_FREE)
            self._names[number] = holder
        else:
            number = len(self._names)
            self._names.append(holder)
            self._counts.append([0] * len(Tier))
        self._numbers[holder] = number
        return number

    def _step(self, run: Run | None, at: int, wanted: bytes, ids: bytes) -> tuple[Run, int, int]:
        """Find or make room for blocks that come after position `at` of a run: the run, the position, how many."""
        if run is not None and at < run.count:
            count = common_blocks(run.locals[at * BLOCK_BYTES :], wanted)
            if count:
                return run, at, count
            self._split(run, at)
        siblings = self._roots if run is None else run.children
        first = wanted[:BLOCK_BYTES]
        if child := siblings.get(first):
            return child, 0, common_blocks(child.locals, wanted)
        if run is None or siblings or at == MAX_BLOCKS:
            run = self._add(run, first)
            at = 0
        count = min(MAX_BLOCKS - at, len(wanted) // BLOCK_BYTES)
        for cover in run.covers:
            cover.grow(run.whole)
        run.locals += wanted[: count * BLOCK_BYTES]
        self._ids.extend(run, ids[: count * BLOCK_BYTES])
        return run, at, count

    def _add(self, parent: Run | None, first: bytes) -> Run:
        """A run without blocks after another one, or at the start of prompts."""
        run = self._ids.new_run(parent)
        if parent is None:
            self._roots[first] = run
        else:
            parent.add_child(first, run)
        return run

    def _split(self, run: Run, at: int) -> None:
        """Make the blocks from position `at` on a run of their own."""
        count, cut = run.count, at * BLOCK_BYTES
        tail = self._ids.split(run, at)
        tail.locals, run.locals = run.locals[cut:], run.locals[:cut]
        tail.children, run.children = run.children, {run_start(tail): tail}
        for child in tail.children.values():
            child.parent = tail
        tail.covers = tuple(cover.split(at, count) for cover in run.covers)

    def _mark(self, number: int, tier: Tier, run: Run, at: int, count: int) -> None:
        cover, whole = run.own_cover(tier), run.whole
        held = cover.held(number, whole)
        blocks = held | ((1 << count) - 1) << at
        if blocks != held:
            self._counts[number][tier] += (blocks ^ held).bit_count()
            cover.assign(number, blocks, whole)

    def _unmark(self, number: int, tier: Tier, run: Run, at: int) -> bool:
        whole = run.whole
        held = run.cover(tier).held(number, whole)
        if not held >> at & 1:
            return False
        run.own_cover(tier).assign(number, held ^ 1 << at, whole)
        self._counts[number][tier] -= 1
        return True

    def _claim(self, number: int, stored: Tier, run: Run, at: int, ids: bytes) -> None:
        """From now on a holder calls some blocks, just stored in a tier, by these ids."""
        for (old_run, old_at), stored_anew in self._ids.claim(number, run, at, ids).items():
            for tier in Tier:
                if not (stored_anew and tier is stored):
                    self._unmark(number, tier, old_run, old_at)
            self._forget_if_gone(number, old_run, old_at)

    def _forget_if_gone(self, number: int, run: Run, at: int) -> None:
        if not run.held(number) >> at & 1:
            self._ids.forget(number, run, at)
            self._trim(run)

    def _trim(self, run: Run) -> None:
        """Drop blocks at the end of a run that nobody has and nothing follows, and the run when none is left."""
        while not run.children and (used := run.used()) < run.count:
            self._ids.cut(run, used)
            start = run_start(run)
            run.locals = run.locals[: used * BLOCK_BYTES]
            if used:
                for cover in run.covers:
                    cover.shrink(run.whole)
                return
            if run.parent is None:
                del self._roots[start]
                return
            run.parent.drop_child(start)
            run = run.parent


def run_start(run: Run) -> bytes:
    """The key of a run among its siblings."""
    return run.locals[:BLOCK_BYTES]


def _packed(numbers: Sequence[int]) -> bytes:
    try:
        return array("Q", numbers).tobytes()
    except (OverflowError, TypeError) as error:
        raise InvalidRequest("cannot store a block hash that is no unsigned 64-bit number") from error
