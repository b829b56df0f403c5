"""A worker's word of its load reaches every front end, and counts there in every router mode."""

import trio

from appliance.core.errors import Overloaded
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.records import BusyThreshold, RankLoad
from appliance.core.settings import RouterSettings
from appliance.routing.router import Router, RoutingRequest
from appliance.routing.slots import thresholds_by_model
from appliance.transport.link_server import LinkServer
from appliance.transport.links import Links
from appliance.wire.pair import open_pair
from tests.fakes.token_engine import TokenEngine, make_card
from tests.helpers.waiting import until

WORKER = WorkerId("w")


async def test_reports_arrive_and_turn_requests_away() -> None:
    card = make_card()
    server = LinkServer(TokenEngine(), card, worker=WORKER)
    router = Router(RouterSettings(mode="round-robin"))
    router.set_busy_thresholds(
        thresholds_by_model([BusyThreshold(model=card.name, active_prefill_tokens_threshold=10)])
    )
    heard: list[list[RankLoad]] = []

    def on_load(worker: WorkerId, loads: list[RankLoad]) -> None:
        heard.append(loads)
        for one in loads:
            router.report_load(worker, one.rank, decode_blocks=one.decode_blocks, prefill_tokens=one.prefill_tokens)

    async with trio.open_nursery() as nursery:
        links = Links(nursery, on_load=on_load)
        near, far = open_pair()
        nursery.start_soon(server.serve, far)
        router.add(WORKER, await links.attach(WORKER, near))
        wish = RoutingRequest(id=RequestId("r"), model=ModelName(card.name))
        for tokens, busy in ((11, True), (10, False)):
            heard.clear()
            server.publish_loads([RankLoad(0, 3, tokens)])
            await until(lambda: heard)
            assert heard[-1] == [RankLoad(0, 3, tokens)]
            try:
                (await router.place(wish)).__exit__(None, None, None)
                refused = False
            except Overloaded:
                refused = True
            assert refused is busy
        nursery.cancel_scope.cancel()
