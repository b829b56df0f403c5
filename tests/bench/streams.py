"""Cost of one token between the pump and the client's queue, and of decoding one chat body.

python -m tests.bench.streams
"""

import json
import time
from collections.abc import Callable, Sequence

from appliance.core.generation import GenerationRequest
from appliance.core.identity import RequestId
from appliance.core.requests import TokenChunk
from appliance.frontend.protocols.openai.decode import decode_chat
from appliance.frontend.protocols.openai.formats import chat_format
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.frontend.streams.seams import TextTools
from tests.fakes.client import NullClient
from tests.fakes.text import ByteDetokeniser, NaiveStops
from tests.helpers.answers import hermes

TOKENS = 100_000
WORDS = " ".join(["word"] * 100)


class TableDetokeniser:
    """Text of single tokens from a table: the least that any detokeniser costs."""

    def __init__(self) -> None:
        self._table = [f" token{n}" for n in range(256)]

    def push(self, ids: Sequence[int]) -> str:
        table = self._table
        return table[ids[0]] if len(ids) == 1 else "".join([table[i] for i in ids])

    def finish(self) -> str:
        return ""


def request(**members: object) -> GenerationRequest:
    messages = [{"role": "user", "content": WORDS}]
    return decode_chat(json.dumps({"model": "m", "messages": messages, **members}).encode(), RequestId("r"))


def token_ns(one: GenerationRequest, tools: TextTools) -> float:
    """Nanoseconds per token with one token a step and one flush a step."""
    answer = Answer(one, NullClient(), chat_format(one), tools, [PromptFacts(100)])
    choice, step = answer.choices[0], TokenChunk(stream=1, token_ids=[97])
    start = time.process_time()
    for _ in range(TOKENS):
        choice.on_chunk(step)
        choice.flush()
    return (time.process_time() - start) / TOKENS * 1e9


def decode_us() -> float:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": WORDS}], "stream": True}).encode()
    start = time.process_time()
    for _ in range(20_000):
        decode_chat(body, RequestId("r"))
    return (time.process_time() - start) / 20_000 * 1e6


def best(measure: Callable[[], float]) -> float:
    """The least of five runs: other work on the machine only adds."""
    return min(measure() for _ in range(5))


def main() -> None:
    streamed, unary = request(stream=True), request()
    with_tools = request(stream=True, tools=[{"type": "function", "function": {"name": "f"}}])
    table = TextTools(detokeniser=TableDetokeniser)
    stops = TextTools(detokeniser=TableDetokeniser, matcher=lambda: NaiveStops(["never seen"]))
    toy = TextTools(detokeniser=ByteDetokeniser)
    parsed = TextTools(detokeniser=TableDetokeniser, parser=lambda: hermes(with_tools))
    print(f"streamed token, table detokeniser   {best(lambda: token_ns(streamed, table)):8.0f} ns")
    print(f"streamed token, two parsers         {best(lambda: token_ns(with_tools, parsed)):8.0f} ns")
    print(f"streamed token, naive stop matcher  {best(lambda: token_ns(streamed, stops)):8.0f} ns")
    print(f"streamed token, byte detokeniser    {best(lambda: token_ns(streamed, toy)):8.0f} ns")
    print(f"unstreamed token, table detokeniser {best(lambda: token_ns(unary, table)):8.0f} ns")
    print(f"decode a chat body of 100 words     {best(decode_us):8.1f} us")


if __name__ == "__main__":
    main()
