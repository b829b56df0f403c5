"""What a worker says of its own health: its sign of life for the supervisor, and the canary request of idle times."""

import trio

from appliance.core.errors import ApplianceError
from appliance.core.identity import RequestId
from appliance.core.ports import Engine, ProgressSource
from appliance.core.requests import EngineRequest, ModelCard, StopConditions
from appliance.core.settings import SupervisionSettings
from appliance.engines.kept_output import KeptOutput
from appliance.supervision.liveness import LifeSign
from appliance.transport.worker_load import WorkerLoad

ANY_TOKEN = 0


class WorkerHealth:
    """Watches one serving engine."""

    def __init__(self, engine: Engine, card: ModelCard, load: WorkerLoad, settings: SupervisionSettings) -> None:
        self._engine, self._card, self._load, self._settings = engine, card, load, settings
        self._fault = ""

    def sign(self) -> LifeSign:
        """How the worker is at this moment."""
        progress = self._load.chunks + self._load.served
        if isinstance(self._engine, ProgressSource):
            progress += self._engine.progress()
        return LifeSign(busy=self._load.open > 0, progress=progress, fault=self._fault)

    async def run(self) -> None:
        """While the canary is on: ask the engine for a token whenever it was idle for a while. Ends when it is off."""
        settings = self._settings
        served = -1
        while settings.canary:
            await trio.sleep(settings.canary_wait_s)
            if self._load.open == 0 and self._load.served == served and not self._load.draining:
                self._fault = await self._try()
            served = self._load.served

    async def _try(self) -> str:
        """What is wrong, or nothing."""
        limit_s = self._settings.canary_timeout_s
        with trio.move_on_after(limit_s) as limit:
            try:
                await self._ask()
            except ApplianceError as error:
                return f"its canary request failed: {error.message}"
        return f"its canary request gave no token within {limit_s:g} s" if limit.cancelled_caught else ""

    async def _ask(self) -> None:
        card = self._card
        takes_text = card.io == "text"
        request = EngineRequest(
            id=RequestId("canary"),
            model=card.name,
            token_ids=[] if takes_text else list(card.eos_token_ids[:1] or (ANY_TOKEN,)),
            text="a" if takes_text else None,
            task=card.task,
            stop=StopConditions(max_tokens=1, ignore_eos=True),
        )
        if card.task == "embed":
            await self._engine.embed(request)
        else:
            await self._engine.generate(request, KeptOutput())
