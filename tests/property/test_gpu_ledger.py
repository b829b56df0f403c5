"""Whatever is asked for in whatever order: no GPU is promised twice over, and nothing stays promised at the end."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.gpus import GIB, Gpu, GpuDemand, GpuHealth
from appliance.core.identity import WorkerId
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_places import NoRoom, choose
from tests.helpers.gpus import make_gpu, make_scan

amounts = st.integers(1, 90)
counts = st.one_of(st.none(), st.integers(1, 5))
demands = st.one_of(
    st.builds(lambda count, gib: GpuDemand(count=count, memory_bytes=gib * GIB), counts, amounts),
    st.builds(lambda gib, count: GpuDemand(count=count, memory_bytes=gib * GIB, shared=True), amounts, counts),
    st.builds(lambda share: GpuDemand(shared=True, share=share), st.floats(0.05, 1.0)),
    st.builds(lambda count: GpuDemand(count=count), counts),
)


@st.composite
def machines(draw: st.DrawFn) -> list[Gpu]:
    """Up to six GPUs in islands, of two kinds, some in parts, some used by others."""
    islands = [draw(st.integers(0, 2)) for _ in range(draw(st.integers(1, 6)))]
    gpus = []
    for index, island in enumerate(islands):
        total = draw(st.sampled_from([24, 80]))
        joined = [peer for peer, other in enumerate(islands) if other == island and island]
        parts = draw(st.sampled_from([0, 0, 0, 2]))
        used = draw(st.integers(0, total))
        gpus.append(make_gpu(index, total=total, name=f"G{total}", used=used, island=joined, parts=parts))
    return gpus


steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), demands),
        st.tuples(st.just("stop"), st.integers(0, 9)),
        st.tuples(st.just("loaded"), st.integers(0, 9)),
        st.tuples(st.just("look"), st.lists(st.integers(0, 80), min_size=6, max_size=6)),
        st.tuples(st.just("lose"), st.integers(0, 5)),
    ),
    max_size=25,
)


class Run:
    """A ledger and what happens to it; others use memory as they like, our workers none that the driver tells."""

    def __init__(self, gpus: list[Gpu]) -> None:
        self.gpus = gpus
        self.ledger = GpuLedger()
        self.running: list[WorkerId] = []
        self.started = 0
        self.look()

    def look(self) -> None:
        self.ledger.observe(make_scan(*self.gpus), self.ledger.begin_look(), lambda _: None)

    def start(self, demand: GpuDemand) -> None:
        self.started += 1
        worker = WorkerId(f"w{self.started}")
        before = {place.uuid: place for place in self.ledger.places()}
        try:
            first = choose(self.ledger.places(), demand)
            assert first == choose(self.ledger.places(), demand), "not deterministic"
            grant = self.ledger.promise(worker, f"g/{worker}/0", demand)
        except NoRoom:
            return
        if isinstance(grant, str):
            return
        self.running.append(worker)
        for uuid, amount in grant.promised.items():
            assert amount <= before[uuid].room, "over-promised"
            assert not before[uuid].unusable
            assert not before[uuid].taken
        assert demand.count is None or len(grant.uuids) == demand.count
        assert len(grant.uuids) == 1 or not any(uuid.startswith("MIG") for uuid in grant.uuids)
        assert sum(grant.promised.values()) >= demand.memory_bytes

    def act(self, step: str, value: object) -> None:
        match step, value:
            case "start", GpuDemand() as demand:
                self.start(demand)
            case "stop", int(at) if self.running:
                self.ledger.release(self.running.pop(at % len(self.running)))
            case "loaded", int(at) if self.running:
                self.ledger.loaded(self.running[at % len(self.running)])
            case "look", list(used):
                self.gpus = [
                    replace(gpu, memory_used=min(gib * GIB, gpu.memory_total))
                    for gpu, gib in zip(self.gpus, used, strict=False)
                ]
                self.look()
            case "lose", int(at):
                self.gpus = [replace(gpu, health=GpuHealth.LOST) if gpu.index == at else gpu for gpu in self.gpus]
                self.look()
                for worker in self.ledger.lost():
                    self.running.remove(worker)
                    self.ledger.release(worker)


@settings(deadline=None)  # a shared machine may stand still for a while
@given(machines(), steps)
def test_no_history_promises_too_much(gpus: list[Gpu], script: list[tuple[str, object]]) -> None:
    run = Run(gpus)
    for step, value in script:
        run.act(step, value)
        for place in run.ledger.places():
            assert sum(amount for _, amount in place.promised) <= place.total
            assert len(place.promised) <= 1 or not place.taken
        assert run.ledger.holders == set(run.running)
    for worker in run.running:
        run.ledger.release(worker)
    assert all(not place.promised and not place.taken for place in run.ledger.places())


@settings(deadline=None)  # a shared machine may stand still for a while
@given(machines(), st.integers(2, 5))
def test_islands_are_kept_to(gpus: list[Gpu], count: int) -> None:
    """Several GPUs without a word about it are of one kind and joined each with each."""
    ledger = GpuLedger()
    ledger.observe(make_scan(*gpus), ledger.begin_look(), lambda _: None)
    try:
        found = choose(ledger.places(), GpuDemand(count=count))
    except NoRoom:
        return
    joined = all(b.uuid in a.nvlinked for a in found.places for b in found.places if a is not b)
    assert (found.note == "") == (joined and len({place.kind for place in found.places}) == 1)
