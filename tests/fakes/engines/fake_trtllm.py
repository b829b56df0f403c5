"""A stand-in for TensorRT-LLM's server, with its routes and the form of its cache events; run it as a module."""

import argparse
import json
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fakes.engines.serving import Exchange, draw_tokens, pause, say, serve

KNOWN = {
    "model", "prompt", "detokenize", "stream", "stream_options", "max_tokens", "min_tokens", "stop_token_ids",
    "ignore_eos", "logprobs", "response_format", "temperature", "top_p", "top_k", "min_p", "seed", "logit_bias",
    "presence_penalty", "frequency_penalty", "repetition_penalty",
}  # fmt: skip
"""Members of a completion request; any other is refused, as there."""
WINDOW = 4096


class FakeTrtLlm:
    """The state behind the routes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.model = Path(given.model).name
        self.bodies: list[dict[str, Any]] = []
        self.polls = 0
        self.events: list[dict[str, Any]] = []
        self.held: set[int] = set()
        self.lock = threading.Lock()
        options = json.loads(Path(given.extra_llm_api_options).read_text()) if given.extra_llm_api_options else {}
        self.cache = options.get("kv_cache_config", {})
        self.block: int = self.cache.get("tokens_per_block", 32)
        for window, blocks in ((128, 10), (WINDOW, 2048)):
            self._tell({"type": "created", "num_blocks_per_cache_level": [blocks, 0]}, window)

    def routes(self) -> dict[str, Any]:
        routes = {
            "GET /health": lambda exchange: exchange.reply(200, b""),
            "GET /version": lambda exchange: exchange.reply(200, {"version": "1.2.0"}),
            "GET /v1/models": lambda exchange: exchange.reply(200, {"object": "list", "data": [{"id": self.model}]}),
            "POST /v1/completions": self.complete,
            "POST /release_memory": self.release,
            "POST /resume_memory": lambda exchange: exchange.reply(200, {}),
            "GET /fake/seen": self.seen,
            "POST /fake/remove": self.remove,
        }
        if not self.given.fake_no_events:
            routes["POST /kv_cache_events"] = self.drain
        return routes

    def complete(self, exchange: Exchange) -> None:
        body: dict[str, Any] = exchange.body
        self.bodies.append(body)
        unknown = sorted(body.keys() - (KNOWN - ({"detokenize"} if self.given.fake_old else set())))
        if unknown:
            exchange.reply(400, {"message": f"Extra inputs are not permitted: {unknown}", "type": "BadRequestError"})
            return
        prompt, most = body["prompt"], body.get("max_tokens") or 16
        cached = self._store(prompt)
        drawn = list(draw_tokens(prompt, body, most))
        if not body.get("stream"):
            choice = {"index": 0, "text": "", "token_ids": [token for token, _ in drawn], "finish_reason": "length"}
            exchange.reply(200, {"choices": [choice], "usage": {}})
            return
        exchange.stream(self._chunks(body, drawn, most, cached))

    def _chunks(
        self, body: dict[str, Any], drawn: list[tuple[int, bool]], most: int, cached: int
    ) -> Iterator[dict[str, Any]]:
        for sent, (token, ends) in enumerate(drawn, start=1):
            pause(self.given.fake_step_s)
            word = "stop" if ends else "length" if sent == most else None
            choice: dict[str, Any] = {"index": 0, "text": "", "token_ids": [token], "finish_reason": word}
            if body.get("logprobs"):
                choice["logprobs"] = {"tokens": ["x"], "token_logprobs": [-0.5], "top_logprobs": [{"x": -0.5}]}
            yield {"choices": [choice]}
        yield {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": cached}}}

    def drain(self, exchange: Exchange) -> None:
        """What has happened since the last look, and nothing of it again."""
        with self.lock:
            found, self.events = self.events, []
            self.polls += 1
        exchange.reply(200, found if self.cache.get("event_buffer_max_size") else [])

    def release(self, exchange: Exchange) -> None:
        with self.lock:
            self.held.clear()
        exchange.reply(200, {})

    def remove(self, exchange: Exchange) -> None:
        """Evict everything, as tests ask for it."""
        with self.lock:
            gone, self.held = sorted(self.held), set()
        self._tell({"type": "removed", "block_hashes": gone})
        exchange.reply(200, {})

    def seen(self, exchange: Exchange) -> None:
        exchange.reply(200, {"bodies": self.bodies, "polls": self.polls, "cache": self.cache, "argv": sys.argv})

    def _store(self, prompt: list[int]) -> int:
        """Keep the blocks of a prompt, the short last one too; how many tokens of it were there."""
        starts = range(0, len(prompt), self.block)
        names = [zlib.crc32(repr(prompt[: at + self.block]).encode()) for at in starts]
        known = sum(1 for name in names if name in self.held)
        fresh = [(names[at], prompt[start : start + self.block]) for at, start in enumerate(starts)][known:]
        if fresh:
            self.held.update(name for name, _ in fresh)
            parent = names[known - 1] if known else None
            self._tell({"type": "stored", "parent_hash": parent, "blocks": [_block(*one) for one in fresh]})
        return min(known * self.block, len(prompt))

    def _tell(self, data: dict[str, Any], window: int = WINDOW) -> None:
        with self.lock:
            self.events.append({"event_id": len(self.events), "data": data, "window_size": window})


def _block(name: int, tokens: list[int]) -> dict[str, Any]:
    told = [{"type": "unique_token", "token_id": token, "token_extra_id": 0} for token in tokens]
    return {"type": "stored_block", "block_hash": name, "tokens": told, "cache_level": 0, "priority": 35}


def read_arguments() -> argparse.Namespace:
    """The flags of the real server that matter here; any other is an error, as there."""
    parser = argparse.ArgumentParser(prog="trtllm-serve")
    parser.add_argument("model")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max_batch_size", type=int)
    parser.add_argument("--max_seq_len", type=int)
    parser.add_argument("--kv_cache_free_gpu_memory_fraction", type=float)
    parser.add_argument("--extra_llm_api_options")
    parser.add_argument("--fake_old", action="store_true", help="gives text only")
    parser.add_argument("--fake_no_events", action="store_true")
    parser.add_argument("--fake_step_s", type=float, default=0.0)
    return parser.parse_args()


def main() -> None:
    given = read_arguments()
    with serve(given.port, FakeTrtLlm(given).routes(), given.host) as server:
        say(f"listening on {server.server_address[1]}")
        server.serve_forever(0.05)


if __name__ == "__main__":
    main()
