"""What travels between a front end and an engine: a request of token ids in, chunks of token ids out."""

from typing import Any, Literal

import msgspec

from appliance.core.identity import Digest, ModelName, RequestId

FinishReason = Literal["stop", "length", "cancelled", "error"]
Task = Literal["generate", "embed"]


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How the next token is drawn; None leaves the choice to the model's own defaults."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None


class StopConditions(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """When an engine ends a stream by itself. Stop strings are not here: the front end matches them on text."""

    max_tokens: int
    """Upper bound on output tokens, always set by the front end (remaining context when the client gave none)."""
    min_tokens: int = 0
    """No end token is honoured before this many output tokens."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the stream with finish `stop`; the ending id is not emitted."""
    ignore_eos: bool = False
    """The model's own end tokens do not end the stream."""


class Guided(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A constraint on the output text; exactly one member is set."""

    json_schema: str | None = None
    """JSON text of the schema."""
    grammar: str | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None


class EngineRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One stream that an engine is asked for. `n` choices are `n` requests."""

    id: RequestId
    model: ModelName
    token_ids: list[int] = []
    """The prompt. Empty when the card says `io: text`; then `messages` or `text` holds it."""
    messages: list[dict[str, Any]] | None = None
    text: str | None = None
    task: Task = "generate"
    sampling: Sampling = Sampling()
    stop: StopConditions
    guided: Guided | None = None
    logprobs: int | None = None
    """None: no log-probabilities; k >= 0: of the chosen token and of the k likeliest."""
    priority: int = 0
    deadline_s: float | None = None
    """Seconds from receipt after which the worker gives the stream up."""


class TokenLogprob(msgspec.Struct, array_like=True, gc=False):
    """Natural-log probability of an emitted token, and of the likeliest alternatives, best first."""

    logprob: float
    top: list[tuple[int, float]] = []


class EngineUsage(msgspec.Struct, array_like=True, gc=False):
    """Token counts of a finished stream as the engine saw them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were reused."""


class TokenChunk(msgspec.Struct, array_like=True, gc=False):
    """One stream's share of one engine step. The last chunk has `finish` and `usage`."""

    stream: int
    """Number of the stream on its link, chosen by the front end."""
    token_ids: list[int]
    finish: FinishReason | None = None
    usage: EngineUsage | None = None
    logprobs: list[TokenLogprob] | None = None
    """One entry per token id when the request asked for them."""


class FileRef(msgspec.Struct, frozen=True):
    """A file that a worker hands out by digest, such as a tokenizer."""

    digest: Digest
    size_bytes: int


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of the model it serves, once, when it is ready."""

    name: ModelName
    context_length: int
    """Tokens of prompt and output together that one stream may hold."""
    block_size: int = 16
    """Tokens in a KV block."""
    io: Literal["tokens", "text"] = "tokens"
    task: Task = "generate"
    engine: str
    """`llamacpp`, `mocker`, ..."""
    files: dict[str, FileRef] = {}
    """By name: `tokenizer.json`, `chat_template.jinja`, `tool_chat_template.jinja`. Without a tokenizer the worker is
    asked to tokenize, and `detokenizer.json` (same format) turns ids into text."""
    bos_token: str = ""
    eos_token: str = ""
    add_bos: bool = False
    """The engine expects the begin token in front of plain prompts (templates write their own)."""
    eos_token_ids: tuple[int, ...] = ()
    vocab_size: int = 0
    embedding_size: int = 0
    """Length of an embedding vector; 0 when the model gives none."""
    max_num_seqs: int = 1
    """Streams that run at once; more wait in the worker."""
    total_kv_blocks: int = 0
    role: Literal["aggregated", "prefill", "decode"] = "aggregated"
    rank: int = 0
    default_sampling: Sampling = Sampling()
    """The model's own sampling defaults, from its generation config."""
    guided: bool = False
    """The engine can constrain output, from its first token on."""
    tool_call_parser: str | None = None
    """A parser's name; None or `auto`: by the model's template or name; `none`: no parser."""
    reasoning_parser: str | None = None
    """As above."""
