"""A front end tells the supervisor which models requests wait for, and which are in use."""

from collections.abc import Mapping

import trio

from appliance.core.identity import ModelName
from appliance.frontend.accounts import Accounts
from appliance.routing.held import Held
from appliance.routing.router import Router
from appliance.transport.bus_client import BusClient
from appliance.wire.bus_messages import Demand, ModelDemand

REPEAT_S = 1.0
GATHER_S = 0.02  # what comes within this time is one report


async def report_demand(bus: BusClient, router: Router, accounts: Accounts) -> None:
    """Report for ever: at once when a request begins or ends to wait, every second while one waits or use changes."""
    said: object = None
    while True:
        demand = compose_demand(router.held.counts(), accounts.use())
        now, waits = trio.current_time(), any(one.waiting for one in demand.models)
        # The moment of the last use, not the time since then: that grows without anything happening.
        facts = [
            (one.model, one.waiting, one.active, one.idle_s < 0 or round(now - one.idle_s, 1)) for one in demand.models
        ]
        if waits or facts != said:
            bus.post(demand)
            said = facts
        with trio.move_on_after(REPEAT_S):
            await router.held.changed()
        await trio.sleep(GATHER_S)


def compose_demand(held: Mapping[ModelName, Held], use: Mapping[str, tuple[int, float]]) -> Demand:
    """What there is to say about each model that is waited for or was ever used."""
    found = []
    for name in dict.fromkeys([*held, *use]):
        waits = held.get(ModelName(name), Held(0, 0.0))
        running, idle_s = use.get(name, (0, -1.0))
        # Held requests run too, as far as the front end is concerned.
        found.append(ModelDemand(name, waits.count, waits.oldest_s, max(0, running - waits.count), idle_s))
    return Demand(found)
