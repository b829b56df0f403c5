"""Routing dry run, the annotation `query_instance_id:`: the choice of the router is the answer, and nothing is run."""

from collections.abc import Sequence

import msgspec

from appliance.core.generation import GenerationRequest, Pins, RoutingHints
from appliance.frontend.accounts import Account
from appliance.frontend.streams.outcome import ChoiceOutcome, Members, Usage
from appliance.frontend.streams.seams import AnswerFormat, Client
from appliance.preprocess.prepare import Prepared
from appliance.routing.router import Router, RoutingRequest
from appliance.routing.weights import Role

NO_CACHE = (("cache-control", "no-cache"),)


async def answer_dry_run(
    request: GenerationRequest,
    prepared: Sequence[Prepared],
    hints: RoutingHints,
    pins: Pins,
    router: Router,
    account: Account,
    format: AnswerFormat,
    client: Client,
) -> None:
    """Ask for a place for the first prompt, book nothing, and answer with one event, or one document.

    Raises what `Router.place` raises. Cancelling leaves nothing behind.
    """
    prompt = prepared[0]
    hints = msgspec.structs.replace(hints, query_only=True)

    def wish(role: Role) -> RoutingRequest:
        return RoutingRequest(
            id=request.id, model=request.model, token_ids=prompt.token_ids, pins=pins, hints=hints, role=role
        )

    split = bool(prompt.token_ids) and router.wants_prefill(wish("decode"))
    if split:
        await _ask(router, account, wish("prefill"), prefill=True)
    await _ask(router, account, wish("decode" if split else "aggregated"))
    account.prompt_tokens = len(prompt.token_ids)
    facts = account.routed
    nvext: Members = {"worker_id": facts.worker_ids(), "token_ids": prompt.token_ids}
    if timing := facts.timing(account.started, None):
        nvext["timing"] = timing
    _send(request, len(prompt.token_ids), nvext, format, client)
    await client.drained()


async def _ask(router: Router, account: Account, wish: RoutingRequest, *, prefill: bool = False) -> None:
    account.routed.ask(router, wish.role)
    with await router.place(wish) as placement:
        account.routed.take(placement, prefill=prefill)


def _send(request: GenerationRequest, prompt_tokens: int, nvext: Members, format: AnswerFormat, client: Client) -> None:
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=0)
    if not request.stream:
        outcome = ChoiceOutcome(index=0, text="", finish="stop")
        client.respond(200, format.document([outcome], usage, nvext))
        return
    client.start_stream(headers=NO_CACHE)
    event = format.frames(0).event("", finish="stop", nvext=nvext)
    closing = format.closing(usage if request.include_usage else None)
    client.write(format.opening(prompt_tokens) + event + closing)
    client.end()
