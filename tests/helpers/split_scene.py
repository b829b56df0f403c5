"""An answer whose requests are split: two prefill and two decode workers, played by the test."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager

from appliance.core.generation import NO_PINS, Pins
from appliance.core.settings import RequestSettings, RouterSettings
from tests.helpers.answer_scene import IN_TURN, AnswerScene, playing, question
from tests.helpers.answers import chat_request

PREFILL, DECODE = ("p1", "p2"), ("d1", "d2")
HANDOVER = {"blocks": [4, 5]}
BOOTSTRAP_PORT = 8998


def split_scene(
    *,
    settings: RequestSettings | None = None,
    router: RouterSettings = IN_TURN,
    meets: bool = False,
    needs_prefill: bool = False,
    pins: Pins = NO_PINS,
    n: int = 1,
    away: Collection[str] = (),
) -> AbstractAsyncContextManager[AnswerScene]:
    """The answer is being given while the block runs.

    `meets`: both halves run at once and meet at the prefill worker; `needs_prefill`: decode workers compute no prompts;
    `away`: workers that are not there.
    """
    made = AnswerScene(chat_request(stream=True, n=n), question(logprobs=2), settings, router=router, pins=pins)
    place = {"bootstrap_host": "127.0.0.1", "bootstrap_port": BOOTSTRAP_PORT} if meets else {}
    for name in PREFILL:
        made.join(name, role="prefill", **place)
    for name in DECODE:
        made.join(name, role="decode", needs_prefill=needs_prefill)
    made.leave(*away)
    return playing(made)
