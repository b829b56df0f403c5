"""A stand-in for SGLang's server, with its routes and its log lines; run it as a module."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from tests.fakes.engines.serving import Exchange, Slots, draw_tokens, pause, say, serve


class FakeSglang:
    """The state behind the routes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.slots = Slots(given.max_running_requests)
        self.adapters: set[str] = set()
        self.released: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.aborted: list[str] = []
        self.publisher: Any = None

    def routes(self) -> dict[str, Any]:
        """By `METHOD /path`."""
        info = "GET /get_server_info" if self.given.fake_old else "GET /server_info"
        routes = {
            "GET /health": lambda exchange: exchange.reply(200, b""),
            info: self.server_info,
            "GET /v1/models": self.list_models,
            "GET /metrics": lambda exchange: exchange.reply(200, b"sglang:num_running_reqs 0.0\n"),
            "POST /generate": self.generate,
            "POST /abort_request": self.abort,
            "POST /v1/embeddings": self.embed,
            "GET /fake/seen": self.seen,
        }
        if self.given.enable_memory_saver:
            routes["POST /release_memory_occupation"] = self.release
            routes["POST /resume_memory_occupation"] = self.resume
        if self.given.enable_lora:
            routes |= {"POST /load_lora_adapter": self.load, "POST /unload_lora_adapter": self.unload}
        return routes

    def server_info(self, exchange: Exchange) -> None:
        info = {"version": "0.5.23", "page_size": self.given.page_size, "max_total_num_tokens": 65536, "dp_size": 1}
        if self.given.disaggregation_bootstrap_port:
            info["disaggregation_bootstrap_port"] = self.given.disaggregation_bootstrap_port
        if self.publisher is not None:
            info["kv_events"] = {"publisher": "zmq", "block_size": self.given.page_size, "dp_size": 1}
        exchange.reply(200, info)

    def list_models(self, exchange: Exchange) -> None:
        entry = {"id": self.given.served_model_name, "max_model_len": self.given.context_length}
        exchange.reply(200, {"object": "list", "data": [entry]})

    def generate(self, exchange: Exchange) -> None:
        body: dict[str, Any] = exchange.body
        self.bodies.append(body)
        prompt = body["input_ids"]
        if self.given.disaggregation_mode and body.get("bootstrap_room") is None:
            exchange.reply(400, {"error": {"message": "Disaggregated request received without bootstrap room id"}})
            return
        with self.slots:
            exchange.stream(self._events(body, prompt, body["sampling_params"]))
        if self.publisher is not None:
            self.publisher.store(prompt)

    def embed(self, exchange: Exchange) -> None:
        exchange.reply(200, {"data": [{"index": 0, "embedding": [0.6, 0.8]}]})

    def abort(self, exchange: Exchange) -> None:
        self.aborted.append(exchange.body["rid"])
        exchange.reply(200, b"")

    def release(self, exchange: Exchange) -> None:
        self.released += exchange.body["tags"]
        exchange.reply(200, b"")

    def resume(self, exchange: Exchange) -> None:
        self.released = [tag for tag in self.released if tag not in exchange.body["tags"]]
        exchange.reply(200, b"")

    def load(self, exchange: Exchange) -> None:
        good = os.path.isdir(exchange.body["lora_path"])
        self.adapters |= {exchange.body["lora_name"]} if good else set()
        exchange.reply(200 if good else 400, {"success": good})

    def unload(self, exchange: Exchange) -> None:
        good = exchange.body["lora_name"] in self.adapters
        self.adapters.discard(exchange.body["lora_name"])
        exchange.reply(200 if good else 400, {"success": good})

    def seen(self, exchange: Exchange) -> None:
        """What tests ask of the stand-in itself."""
        exchange.reply(
            200,
            {
                "bodies": self.bodies,
                "aborted": self.aborted,
                "released": self.released,
                "running": self.slots.running,
                "argv": sys.argv,
            },
        )

    def _events(self, body: dict[str, Any], prompt: list[int], sampling: dict[str, Any]) -> Iterator[dict[str, Any]]:
        most = sampling["max_new_tokens"]
        renamed = sampling | {"seed": sampling.get("sampling_seed"), "min_tokens": sampling.get("min_new_tokens")}
        ids: list[int] = []
        for token, ends in draw_tokens(prompt, renamed, most):
            pause(self.given.fake_step_s)
            ids.append(token)
            reason = {"type": "stop", "matched": token} if ends else None
            if reason is None and len(ids) == most:
                reason = {"type": "length", "length": most}
            facts: dict[str, Any] = {
                "id": body["rid"],
                "finish_reason": reason,
                "prompt_tokens": len(prompt),
                "completion_tokens": len(ids),
                "cached_tokens": 0,
            }
            if body.get("return_logprob"):
                facts["output_token_logprobs"] = [[-0.5, one, None] for one in ids]
                facts["output_top_logprobs"] = [[[-0.5, one, None], [-2.0, 3, None]] for one in ids]
            yield {"text": "", "output_ids": ids[-1:] if self.given.stream_output else ids, "meta_info": facts}


def read_arguments() -> argparse.Namespace:
    """The flags of the real server that matter here; any other is an error, as there."""
    parser = argparse.ArgumentParser(prog="launch_server.py")
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--context-length", type=int, default=512)
    parser.add_argument("--max-running-requests", type=int, default=64)
    parser.add_argument("--page-size", type=int, default=1)
    parser.add_argument("--enable-metrics", action="store_true")
    parser.add_argument("--kv-events-config", type=json.loads)
    parser.add_argument("--disaggregation-mode")
    parser.add_argument("--disaggregation-bootstrap-port", type=int)
    parser.add_argument("--enable-memory-saver", action="store_true")
    parser.add_argument("--enable-weights-cpu-backup", action="store_true")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--is-embedding", action="store_true")
    parser.add_argument("--stream-output", action="store_true", help="new ids only in each event")
    parser.add_argument("--fake-old", action="store_true", help="older names of routes")
    parser.add_argument("--fake-step-s", type=float, default=0.0)
    return parser.parse_args()


def main() -> None:
    given = read_arguments()
    say("[2026-11-21 10:00:00] Load weight begin. avail mem=78.58 GB")
    say("[2026-11-21 10:00:01] Load weight end. type=LlamaForCausalLM, mem usage=1.00 GB.")
    say("[2026-11-21 10:00:02] max_total_num_tokens=65536, chunked_prefill_size=8192")
    fake = FakeSglang(given)
    if (given.kv_events_config or {}).get("publisher") == "zmq":
        from tests.fakes.engines.kv_publisher import BlockPublisher

        fake.publisher = BlockPublisher(given.kv_events_config, given.page_size, signed=True)
    with serve(given.port, fake.routes(), given.host) as server:
        say("[2026-11-21 10:00:03] The server is fired up and ready to roll!")
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        server.serve_forever(0.05)


if __name__ == "__main__":
    main()
