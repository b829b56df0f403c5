"""A stand-in for any server with OpenAI's text API: `python -m tests.fakes.engines.fake_openai --port P`."""

import argparse
from collections.abc import Iterator
from typing import Any

from tests.fakes.engines.serving import Exchange, pause, say, serve


class FakeOpenAi:
    """Answers every chat with a text that repeats the question, word by word."""

    def __init__(self, *, models: list[str], step_s: float = 0.0, fail_after: int | None = None) -> None:
        self.models = models
        self.step_s = step_s
        self.fail_after = fail_after
        self.bodies: list[dict[str, Any]] = []
        self.cut_off = 0
        """Streams whose client left early."""

    def routes(self) -> dict[str, Any]:
        return {
            "GET /health": lambda exchange: exchange.reply(200, b""),
            "GET /version": lambda exchange: exchange.reply(200, {"version": "1.2.0"}),
            "GET /v1/models": self.list_models,
            "POST /v1/chat/completions": self.chat,
            "POST /v1/completions": self.complete,
        }

    def list_models(self, exchange: Exchange) -> None:
        exchange.reply(200, {"object": "list", "data": [{"id": name, "max_model_len": 4096} for name in self.models]})

    def chat(self, exchange: Exchange) -> None:
        body = self._take(exchange)
        if body is None:
            return
        question = body["messages"][-1]["content"]
        if "json please" in question:
            exchange.reply(200, self._whole(question))
            return
        deltas: list[dict[str, Any]] = [{"role": "assistant"}]
        if "think" in question:
            deltas += [{"reasoning_content": "let me "}, {"reasoning_content": "see"}]
        if body.get("tools") and body.get("tool_choice") == "auto":
            name = body["tools"][0]["function"]["name"]
            call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": '{"city": '}}
            deltas += [{"tool_calls": [call]}]
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}]
            finish = "tool_calls"
        else:
            deltas += [{"content": piece} for piece in pieces_of(f"you said: {question}")]
            finish = "stop"
        most = body.get("max_tokens")
        if most is not None and len(deltas) - 1 > most:
            deltas, finish = deltas[: most + 1], "length"
        self._stream(exchange, [{"delta": delta} for delta in deltas], finish)

    def complete(self, exchange: Exchange) -> None:
        body = self._take(exchange)
        if body is None:
            return
        self._stream(exchange, [{"text": piece} for piece in pieces_of(f" after {body['prompt']}")], "stop")

    def _take(self, exchange: Exchange) -> dict[str, Any] | None:
        body: dict[str, Any] = exchange.body
        self.bodies.append(body)
        if body["model"] not in self.models:
            exchange.reply(404, {"error": {"message": f"The model {body['model']} does not exist."}})
        elif "too long" in str(body.get("messages") or body.get("prompt")):
            message = "This model's maximum context length is 4096 tokens. However, /secret/path has more."
            exchange.reply(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})
        elif "explode" in str(body.get("messages")):
            exchange.reply(500, {"error": {"message": "Traceback: File /secret/path line 3"}})
        else:
            return body
        return None

    def _stream(self, exchange: Exchange, deltas: list[dict[str, Any]], finish: str) -> None:
        def events() -> Iterator[dict[str, Any]]:
            for number, delta in enumerate(deltas):
                if number == self.fail_after:
                    yield {"error": {"message": "engine died at /secret/path", "code": 500}}
                    return
                pause(self.step_s)
                yield {"id": "x", "choices": [{"index": 0, "finish_reason": None, **delta}]}
            yield {"id": "x", "choices": [{"index": 0, "finish_reason": finish, "delta": {}, "text": ""}]}
            usage = {"prompt_tokens": 11, "completion_tokens": 40, "prompt_tokens_details": {"cached_tokens": 7}}
            yield {"id": "x", "choices": [], "usage": usage}

        if not exchange.stream(events()):
            self.cut_off += 1

    def _whole(self, question: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": f"you said: {question}"}
        usage = {"prompt_tokens": 5, "completion_tokens": 6}
        return {"id": "x", "choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage}


def pieces_of(text: str) -> list[str]:
    """Words with the spaces in front of them."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", help="as `trtllm-serve` takes it")
    parser.add_argument("--host")
    parser.add_argument("--max_seq_len", type=int)
    parser.add_argument("--max_batch_size", type=int)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--models", default="tiny-remote")
    parser.add_argument("--step-s", type=float, default=0.0)
    given = parser.parse_args()
    fake = FakeOpenAi(models=given.models.split(","), step_s=given.step_s)
    with serve(given.port, fake.routes()) as server:
        say(f"listening on {server.server_address[1]}")
        server.serve_forever(0.05)


if __name__ == "__main__":
    main()
