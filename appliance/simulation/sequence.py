"""One request inside the modelled engine: how long it is, what of it is computed, and which blocks hold it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.routing.block_hash import LocalHash, SequenceHash, local_hashes, sequence_hashes
from appliance.simulation.eviction import CachedBlock

OutputTokens = Callable[[int, int], Sequence[int]]
"""The output tokens from one index up to another, which is not included. Always the same for the same indices."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedRequest:
    """What the engine is asked for. Token ids matter for the reuse of blocks only."""

    id: str
    prompt: Sequence[int]
    max_output_tokens: int
    output: OutputTokens
    prompt_present: bool = False
    """Decode role: the KV cache of the prompt comes with the request and costs blocks but no time."""
    lora: str = ""


class RunningSequence:
    """State of a request. Schedulers change it; everybody else reads."""

    __slots__ = (
        "block_ids", "blocks", "cached_tokens", "computed", "end", "is_prefilling", "is_running", "length",
        "local_hashes", "preemptions", "private", "prompt_tokens", "ready_ms", "request", "room",
    )  # fmt: skip

    def __init__(self, request: SimulatedRequest, block_size: int, *, hashed: bool) -> None:
        self.request = request
        self.prompt_tokens = len(request.prompt)
        self.length = self.prompt_tokens
        """Tokens known: the prompt and the output so far. The last output token is computed by the pass after it."""
        self.end = self.prompt_tokens + request.max_output_tokens
        self.computed = 0
        """Tokens in the cache while the prompt is not complete; not kept up to date after that."""
        self.is_prefilling = True
        self.is_running = False
        self.ready_ms = 0.0
        """No token before this time."""
        self.cached_tokens = 0
        """Prompt tokens that were reused when it first ran."""
        self.preemptions = 0
        self.blocks: list[CachedBlock] = []
        self.private = 0
        self.room = 0
        """Tokens that fit into its blocks."""
        self.local_hashes: list[LocalHash] = []
        if hashed:
            self.local_hashes = local_hashes(request.prompt, block_size, lora_name=request.lora)
        self.block_ids: list[SequenceHash] = sequence_hashes(self.local_hashes)

    @property
    def computed_tokens(self) -> int:
        """Tokens whose keys and values are in the cache: while it decodes, all but the last one."""
        return self.computed if self.is_prefilling else self.length - 1

    @property
    def output_tokens(self) -> int:
        """Tokens given out so far."""
        return self.length - self.prompt_tokens

    def hash_blocks(self, count: int, block_size: int) -> None:
        """Name the first `count` blocks, all of whose tokens must be known."""
        done = len(self.block_ids)
        if done >= count:
            return
        tokens = self._tokens(done * block_size, count * block_size)
        new = local_hashes(tokens, block_size, lora_name=self.request.lora)
        self.local_hashes += new
        self.block_ids += sequence_hashes(new, self.block_ids[-1] if done else None)

    def _tokens(self, start: int, stop: int) -> list[int]:
        prompt = self.prompt_tokens
        tokens = list(self.request.prompt[start:stop]) if start < prompt else []
        if stop > prompt:
            tokens += self.request.output(max(start - prompt, 0), stop - prompt)
        return tokens
