"""Publishes the blocks of prompts over ZMQ as vLLM and SGLang do, with a replay socket."""

import struct
import threading
import time
from typing import Any

import msgspec
import zmq

END = struct.pack(">q", -1)


class BlockPublisher:
    """Says of every full block of a prompt that it is stored, once."""

    def __init__(self, config: dict[str, Any], block_size: int, *, signed: bool = False) -> None:
        self._topic = str(config.get("topic", "")).encode()
        self._block_size = block_size
        self._signed = signed
        self._lock = threading.Lock()
        self._sent: list[bytes] = []
        self._known: set[int] = set()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._live = context.socket(zmq.PUB)
        self._live.bind(config["endpoint"])
        self._replays = context.socket(zmq.ROUTER)
        self._replays.bind(config["replay_endpoint"])
        threading.Thread(target=self._serve_replays, daemon=True).start()

    def store(self, prompt: list[int]) -> None:
        """Publish what is new of a prompt."""
        size = self._block_size
        blocks = [tuple(prompt[at : at + size]) for at in range(0, len(prompt) - size + 1, size)]
        parent = None
        with self._lock:
            for number in range(len(blocks)):
                name = hash(tuple(blocks[: number + 1])) % (1 << 62)
                name = -name if self._signed else name
                if name not in self._known:
                    self._known.add(name)
                    self._publish(
                        {
                            "type": "BlockStored",
                            "block_hashes": [name],
                            "parent_block_hash": parent,
                            "token_ids": list(blocks[number]),
                            "block_size": size,
                            "lora_id": None,
                            "medium": "GPU",
                        }
                    )
                parent = name

    def _publish(self, event: dict[str, Any]) -> None:
        payload = msgspec.msgpack.encode([time.time(), [event], 0])
        self._live.send_multipart([self._topic, struct.pack(">Q", len(self._sent)), payload])
        self._sent.append(payload)

    def _serve_replays(self) -> None:
        while True:
            sender, *_, start = self._replays.recv_multipart()
            with self._lock:
                entries = list(enumerate(self._sent))[struct.unpack(">Q", start)[0] :]
            for number, payload in entries:
                self._replays.send_multipart([sender, b"", self._topic, struct.pack(">Q", number), payload])
            self._replays.send_multipart([sender, b"", b"", END, b""])
