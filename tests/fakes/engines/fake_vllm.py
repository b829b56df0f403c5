"""A stand-in for vLLM's server, with its routes and its log lines; run it as a module, with `serve MODEL`."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tests.fakes.engines.serving import Exchange, Slots, draw_tokens, pause, say, serve

BLOCK = 16


class FakeVllm:
    """The state behind the routes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.names = given.served_model_name
        self.slots = Slots(given.max_num_seqs)
        self.adapters: dict[str, str] = {}
        self.asleep = 0
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.aborted: list[str] = []
        self.calls: list[str] = []
        self.publisher: Any = None

    def routes(self) -> dict[str, Any]:
        """By `METHOD /path`, as many as this version has."""
        routes = {
            "GET /health": lambda exchange: exchange.reply(200, b""),
            "GET /version": lambda exchange: exchange.reply(200, {"version": self.given.fake_version}),
            "GET /v1/models": self.list_models,
            "GET /metrics": self.metrics,
            "POST /v1/completions": self.complete,
            "POST /v1/chat/completions": self.chat,
            "POST /v1/embeddings": self.embed,
            "GET /fake/seen": self.seen,
        }
        if not self.given.fake_old:
            routes["POST /inference/v1/generate"] = self.generate
            routes["POST /abort_requests"] = self.abort
        if os.environ.get("VLLM_SERVER_DEV_MODE") == "1" and self.given.enable_sleep_mode:
            routes |= {"POST /sleep": self.sleep, "POST /wake_up": self.wake, "GET /is_sleeping": self.is_sleeping}
            routes["POST /collective_rpc"] = self.note("collective_rpc")
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") and self.given.enable_lora:
            routes |= {"POST /v1/load_lora_adapter": self.load, "POST /v1/unload_lora_adapter": self.unload}
        return routes

    def list_models(self, exchange: Exchange) -> None:
        entries = [{"id": name, "object": "model", "max_model_len": self.given.max_model_len} for name in self.names]
        exchange.reply(200, {"object": "list", "data": entries})

    def metrics(self, exchange: Exchange) -> None:
        text = (
            "# TYPE vllm:num_requests_running gauge\n"
            f'vllm:num_requests_running{{engine="0",model_name="{self.names[0]}"}} {float(self.slots.running)}\n'
            "# TYPE vllm:cache_config_info gauge\n"
            f'vllm:cache_config_info{{block_size="{BLOCK}",engine="0",num_gpu_blocks="4096"}} 1.0\n'
        )
        exchange.reply(200, text.encode())

    def generate(self, exchange: Exchange) -> None:
        if "token_ids" not in (exchange.body or {}):
            exchange.reply(422, {"detail": [{"loc": ["body", "token_ids"], "msg": "Field required"}]})
            return
        body = self._take(exchange)
        self._answer(exchange, body, body["token_ids"], body["sampling_params"], content=True)

    def complete(self, exchange: Exchange) -> None:
        body = self._take(exchange)
        if isinstance(body["prompt"], str):
            exchange.stream([{"choices": [{"index": 0, "text": "plain", "finish_reason": "stop"}]}])
            return
        self._answer(exchange, body, body["prompt"], body, content=False)

    def chat(self, exchange: Exchange) -> None:
        body = self._take(exchange)
        question = body["messages"][-1]["content"]
        deltas: list[dict[str, Any]] = [{"delta": {"content": f"you said: {question}"}, "finish_reason": None}]
        deltas += [{"delta": {}, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 4, "completion_tokens": 5}
        exchange.stream([*({"choices": [{"index": 0, **delta}]} for delta in deltas), {"choices": [], "usage": usage}])

    def embed(self, exchange: Exchange) -> None:
        ids = exchange.body["input"]
        length = sum(value * value for value in (1, len(ids), sum(ids))) ** 0.5
        vector = [1 / length, len(ids) / length, sum(ids) / length]
        exchange.reply(200, {"data": [{"index": 0, "embedding": vector}], "usage": {"prompt_tokens": len(ids)}})

    def abort(self, exchange: Exchange) -> None:
        self.aborted += exchange.body["request_ids"]
        exchange.reply(200, {})

    def sleep(self, exchange: Exchange) -> None:
        self.asleep = int(exchange.query["level"][0])
        self.calls.append(f"sleep {self.asleep}")
        exchange.reply(200, b"")

    def wake(self, exchange: Exchange) -> None:
        tags = exchange.query.get("tags", [])
        self.calls.append(" ".join(["wake", *tags]))
        if tags != ["weights"]:
            self.asleep = 0
        exchange.reply(200, b"")

    def is_sleeping(self, exchange: Exchange) -> None:
        exchange.reply(200, {"is_sleeping": self.asleep > 0})

    def load(self, exchange: Exchange) -> None:
        name, path = exchange.body["lora_name"], exchange.body["lora_path"]
        if not os.path.isdir(path):
            exchange.reply(404, {"error": {"message": f"No adapter found for {path}"}})
            return
        pause(self.given.fake_lora_s)
        self.adapters[name] = path
        self.names.append(name)
        exchange.reply(200, b"Success: LoRA adapter added successfully.")

    def unload(self, exchange: Exchange) -> None:
        if self.adapters.pop(exchange.body["lora_name"], None) is None:
            exchange.reply(404, {"error": {"message": "The lora adapter cannot be found."}})
            return
        exchange.reply(200, b"Success")

    def note(self, name: str) -> Any:
        def take(exchange: Exchange) -> None:
            self.calls.append(f"{name} {json.dumps(exchange.body)}")
            exchange.reply(200, {"results": [None]})

        return take

    def seen(self, exchange: Exchange) -> None:
        """What tests ask of the stand-in itself."""
        exchange.reply(
            200,
            {
                "bodies": self.bodies,
                "headers": self.headers,
                "aborted": self.aborted,
                "calls": self.calls,
                "running": self.slots.running,
                "environ": dict(os.environ),
                "argv": sys.argv,
            },
        )

    def _take(self, exchange: Exchange) -> dict[str, Any]:
        body: dict[str, Any] = exchange.body
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in exchange.headers.items()})
        return body

    def _answer(
        self, exchange: Exchange, body: dict[str, Any], prompt: list[int], sampling: dict[str, Any], *, content: bool
    ) -> None:
        if body["model"] not in self.names:
            exchange.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            return
        params = body.get("kv_transfer_params")
        if not body.get("stream"):
            exchange.reply(200, self._whole(prompt, params))
            return
        with self.slots:
            exchange.stream(self._events(prompt, sampling, content))
        if self.publisher is not None:
            self.publisher.store(prompt)

    def _whole(self, prompt: list[int], params: dict[str, Any] | None) -> dict[str, Any]:
        found = None
        if params and params.get("do_remote_decode"):
            found = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [1, 2], "odd": {"a": 1}}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        choice = {"index": 0, "token_ids": [77], "text": "", "finish_reason": "length"}
        return {"choices": [choice], "usage": usage, "kv_transfer_params": found}

    def _events(self, prompt: list[int], sampling: dict[str, Any], content: bool) -> Iterator[dict[str, Any]]:
        drawn = draw_tokens(prompt, sampling, sampling["max_tokens"])
        for sent, (token, ends) in enumerate(drawn, start=1):
            pause(self.given.fake_step_s)
            word = "stop" if ends else "length" if sent == sampling["max_tokens"] else None
            choice: dict[str, Any] = {"index": 0, "token_ids": [token], "finish_reason": word}
            if sampling.get("logprobs") is not None:
                choice["logprobs"] = _logprobs(token, content)
            yield {"choices": [choice]}
        details = {"cached_tokens": len(prompt) // BLOCK * BLOCK}
        yield {"choices": [], "usage": {"prompt_tokens": len(prompt), "prompt_tokens_details": details}}


def _logprobs(token: int, content: bool) -> dict[str, Any]:
    name = f"token_id:{token}"
    if content:
        top = [{"token": name, "logprob": -0.5}, {"token": "token_id:3", "logprob": -2.0}]
        return {"content": [{"token": name, "logprob": -0.5, "top_logprobs": top}]}
    return {"tokens": [name], "token_logprobs": [-0.5], "top_logprobs": [{name: -0.5, "token_id:3": -2.0}]}


def read_arguments() -> argparse.Namespace:
    """The flags of the real server that matter here; any other is an error, as there."""
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--model")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", nargs="+", default=["m"])
    parser.add_argument("--max-model-len", type=int, default=512)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--data-parallel-size", type=int, default=1)
    parser.add_argument("--kv-events-config", type=json.loads)
    parser.add_argument("--kv-transfer-config", type=json.loads)
    parser.add_argument("--enable-sleep-mode", action="store_true")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--fake-mark", help="any text, to know the process by")
    parser.add_argument("--fake-version", default="0.33.0")
    parser.add_argument("--fake-old", action=argparse.BooleanOptionalAction, help="no route for tokens only")
    parser.add_argument("--fake-startup-s", type=float, default=0.0)
    parser.add_argument("--fake-step-s", type=float, default=0.0)
    parser.add_argument("--fake-lora-s", type=float, default=0.0, help="what it takes to load an adapter")
    parser.add_argument("--fake-crash", choices=("oom", "port", "odd", "cache"))
    parser.add_argument("--fake-once", help="crash only while this file is missing, and make it")
    parser.add_argument("--fake-ignore-term", action="store_true")
    parser.add_argument("--fake-hang", action="store_true", help="never answers")
    parser.add_argument("--fake-child", help="start a grandchild and write its pid there")
    return parser.parse_args()


CRASHES = {
    "oom": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "port": "OSError: [Errno 98] Address already in use",
    "odd": "RuntimeError: Engine core initialization failed. See root cause above.",
    "cache": "ValueError: To serve at least one request with the models's max seq len (131072), 16.00 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (2.00 GiB).",
}


def crash(given: argparse.Namespace) -> bool:
    """Whether this start is one that fails."""
    if given.fake_crash is None or (given.fake_once and os.path.exists(given.fake_once)):
        return False
    if given.fake_once:
        open(given.fake_once, "w").close()
    return True


def start_up(given: argparse.Namespace) -> None:
    """The log of a start, and what goes wrong in it."""
    say("INFO 11-21 10:00:00 [api_server.py:1] vLLM API server version " + given.fake_version)
    say("(EngineCore_DP0 pid=7) INFO [gpu_model_runner.py:1] Starting to load model m...")
    sys.stderr.write("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]\r")
    say("")
    pause(given.fake_startup_s)
    if crash(given):
        say("(EngineCore_DP0 pid=7) " + CRASHES[given.fake_crash])
        say("Traceback (most recent call last): /secret/path")
        sys.exit(1)
    say("(EngineCore_DP0 pid=7) INFO [kv_cache_utils.py:1] GPU KV cache size: 65,536 tokens")
    if given.fake_ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if given.fake_child:
        import subprocess

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(given.fake_child, "w") as file:
            file.write(str(child.pid))


def main() -> None:
    given = read_arguments()
    start_up(given)
    if given.fake_hang:
        threading.Event().wait()
    fake = FakeVllm(given)
    if given.kv_events_config and given.kv_events_config.get("enable_kv_cache_events"):
        from tests.fakes.engines.kv_publisher import BlockPublisher

        fake.publisher = BlockPublisher(given.kv_events_config, BLOCK)
    with serve(given.port, fake.routes(), given.host) as server:
        say("INFO:     Application startup complete.")
        signal.signal(signal.SIGTERM, signal.SIG_IGN if given.fake_ignore_term else lambda *_: os._exit(0))
        server.serve_forever(0.05)


if __name__ == "__main__":
    main()
