"""The roster against the plain meaning of what was told last: looks, answers and losses in any order."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.core.identity import ModelName, WorkerId
from appliance.core.requests import ModelCard
from appliance.discovery.roster import Roster, SocketFile

KEEP_S = 5.0
NAMES = st.sampled_from([WorkerId(name) for name in "abc"])
MODELS = st.sampled_from([ModelName("m"), ModelName("n")])
FILES = st.builds(SocketFile, st.just(Path("/w/x.sock")), st.integers(1, 2), st.sampled_from([0, 10**9]))
FOLDERS = st.dictionaries(NAMES, FILES)


class RosterMachine(RuleBasedStateMachine):
    """Any history. The model: the files of the last look, and for each the last card read of this very file."""

    @initialize()
    def begin(self) -> None:
        self.roster = Roster(keep_s=KEEP_S)
        self.now = 0.0
        self.files: dict[WorkerId, SocketFile] = {}
        self.cards: dict[WorkerId, ModelName] = {}
        self.lost: set[WorkerId] = set()
        self.seen: dict[ModelName, float] = {}

    @rule(found=FOLDERS, passed_s=st.sampled_from([0.0, 1.0, KEEP_S, 2 * KEEP_S]))
    def look(self, found: dict[WorkerId, SocketFile], passed_s: float) -> None:
        self.now += passed_s
        self.roster.look(found, self.now)
        same = {name for name, file in found.items() if self.files.get(name) == file}
        self.files = found
        self.cards = {name: model for name, model in self.cards.items() if name in same}
        self.lost &= same
        self.seen |= dict.fromkeys(self.cards.values(), self.now)
        self.seen = {model: at for model, at in self.seen.items() if self.now - at <= KEEP_S}

    @rule(name=NAMES, file=FILES, model=MODELS)
    def learn(self, name: WorkerId, file: SocketFile, model: ModelName) -> None:
        self.roster.learn(name, file, ModelCard(name=model, context_length=1, engine="mocker"), self.now)
        if self.files.get(name) == file:
            self.cards[name] = model
            self.lost.discard(name)
            self.seen[model] = self.now

    @rule(name=NAMES)
    def lose(self, name: WorkerId) -> None:
        self.roster.lose(name)
        self.lost |= {name} & self.files.keys()

    @invariant()
    def tells_what_was_last_told(self) -> None:
        workers = {worker.id: (worker.model, worker.phase) for worker in self.roster.workers()}
        assert workers == {
            name: (model, "backoff" if name in self.lost else "ready") for name, model in self.cards.items()
        }
        unread = {name for name in self.files if name not in self.cards or name in self.lost}
        assert set(self.roster.unread()) == {(name, self.files[name]) for name in unread}
        ready = {model for name, model in self.cards.items() if name not in self.lost}
        listed = {one.name: one.phase for one in self.roster.models()}
        assert listed == {model: "ready" if model in ready else "cold" for model in self.seen}


TestRoster = RosterMachine.TestCase


@given(first=FOLDERS, second=FOLDERS)
def test_a_look_asks_for_exactly_what_is_new(
    first: dict[WorkerId, SocketFile], second: dict[WorkerId, SocketFile]
) -> None:
    roster = Roster(keep_s=KEEP_S)
    roster.look(first, 0.0)
    for name, file in first.items():
        roster.learn(name, file, ModelCard(name=ModelName("m"), context_length=1, engine="mocker"), 0.0)
    roster.look(second, 1.0)
    assert set(roster.unread()) == second.items() - first.items()
