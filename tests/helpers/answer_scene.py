"""One answer on its way through a real router and workers that the test plays."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from trio.testing import wait_all_tasks_blocked

from appliance.core.errors import ApplianceError
from appliance.core.generation import NO_PINS, GenerationRequest, Pins
from appliance.core.identity import ModelName, WorkerId
from appliance.core.requests import EngineRequest, ModelCard, Sampling, StopConditions
from appliance.core.settings import RequestSettings, RouterSettings
from appliance.frontend.accounts import Account, Accounts
from appliance.frontend.answer_run import AnswerRun, Shared
from appliance.frontend.vigil import Vigil
from appliance.routing.router import Router
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE
from tests.fakes.client import RecordingClient
from tests.fakes.stage import Stage
from tests.helpers.answers import ID, make_answer

MODEL = ModelName("m")
PROMPT = [1, 2, 3]
IN_TURN = RouterSettings(mode="round-robin")


def question(*, max_tokens: int = 10, **fields: Any) -> EngineRequest:
    """What one choice asks of an engine."""
    stop = StopConditions(max_tokens=max_tokens, min_tokens=4)
    return EngineRequest(id=ID, model=MODEL, token_ids=PROMPT, stop=stop, sampling=Sampling(seed=7), **fields)


class AnswerScene:
    """What the client got, what the workers were asked, what is booked, and how it ended."""

    def __init__(
        self,
        request: GenerationRequest,
        asked: EngineRequest,
        settings: RequestSettings | None = None,
        *,
        router: RouterSettings = IN_TURN,
        pins: Pins = NO_PINS,
    ) -> None:
        self.client, self.stage, self.router = RecordingClient(), Stage(), Router(router)
        self.metrics, self.vigil = Metrics(TABLE), Vigil()
        self.answer = make_answer(request, self.client)
        self.account = Account(id=ID, endpoint="chat_completions", started=0.0, model=MODEL)
        self.ended = trio.Event()
        self.error: ApplianceError | None = None
        self._run = AnswerRun(
            self.answer,
            [asked] * request.n,
            self.account,
            Shared(self.router, self.stage, Accounts(self.metrics), self.vigil),
            settings or RequestSettings(),
            pins,
        )

    def join(self, name: str, **facts: Any) -> None:
        """A worker comes; `facts` are members of its card."""
        self.router.add(
            WorkerId(name), ModelCard(name=MODEL, context_length=100, engine="fake", max_num_seqs=4, **facts)
        )

    def leave(self, *names: str) -> None:
        """Workers go."""
        for name in names:
            self.router.withdraw(WorkerId(name))

    @property
    def kinds(self) -> list[str]:
        """Who was asked, in order, by the first letter of the name."""
        return [worker[0] for worker, _ in self.stage.asked]

    async def run(self) -> None:
        """Give the answer; `ended` is set, and `error` where it is one."""
        try:
            await self._run.run()
        except ApplianceError as error:
            self.error = error
        self.ended.set()

    async def finish(self) -> None:
        """The workers of now end well, and so does the answer."""
        self.stage.say("done", last=True)
        await self.ended.wait()
        assert self.error is None
        assert b"error" not in self.client.body


SceneType = TypeVar("SceneType", bound=AnswerScene)


@asynccontextmanager
async def playing(scene: SceneType) -> AsyncGenerator[SceneType, None]:
    """The answer is being given while the block runs; afterwards nothing may be left open or booked."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.run)
        nursery.start_soon(scene.vigil.run)
        await wait_all_tasks_blocked()
        yield scene
        nursery.cancel_scope.cancel()
    assert scene.stage.open_streams == 0, "a stream was left open"
    assert set(scene.router.load().values()) <= {0}, "a place was left taken"
