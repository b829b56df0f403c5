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


class KvTransfer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One half of a request that is split between a prefill and a decode worker."""

    phase: Literal["prefill", "decode"]
    params: dict[str, Any] = {}
    """Decode: what the prefill worker handed over, unchanged. Prefill: empty."""
    bootstrap_host: str = ""
    bootstrap_port: int = 0
    bootstrap_room: int | None = None
    """With a room both halves run at once and meet there; without one prefill ends before decode begins."""


class EngineRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One stream that an engine is asked for. `n` choices are `n` requests."""

    id: RequestId
    model: ModelName
    token_ids: list[int] = []
    """The prompt. Empty when the card says `io: text`; then `messages` or `text` holds it."""
    messages: list[dict[str, Any]] | None = None
    text: str | None = None
    tools: list[dict[str, Any]] | None = None
    """Beside `messages`: the functions that the model may call."""
    template_args: dict[str, Any] = {}
    """Beside `messages`: variables of the chat template."""
    task: Task = "generate"
    sampling: Sampling = Sampling()
    stop: StopConditions
    guided: Guided | None = None
    logprobs: int | None = None
    """None: no log-probabilities; k >= 0: of the chosen token and of the k likeliest."""
    priority: int = 0
    rank: int | None = None
    """Data-parallel rank that must run it; None leaves the choice to the engine."""
    lora: str = ""
    """Adapter to compute with; empty: the base model."""
    kv_transfer: KvTransfer | None = None
    """Set when the request is split; None: one worker does all of it."""
    deadline_s: float | None = None
    """Seconds from receipt after which the worker gives the stream up."""
    traceparent: str = ""
    """The span, as a W3C header, that the worker's span is to be a part of; empty: the request is not traced."""


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
    handover: dict[str, Any] | None = None
    """With the finish of a prefill: `KvTransfer.params` of the decode request."""
    text: str | None = None
    """Of workers that speak text: the text itself. Their `token_ids` are only to be counted, as far as it is known."""


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
    """First data-parallel rank of the worker."""
    ranks: int = 1
    """Data-parallel ranks; each has a cache and a load of its own."""
    max_num_batched_tokens: int = 0
    """Token budget of one engine step; 0: unknown, and the worker then never counts as busy with prefill."""
    kv_events: bool = False
    """The worker says what its cache holds."""
    lora: str = ""
    """The adapter behind `name`; empty: the base model. Part of the seed of block hashes."""
    bootstrap_host: str = ""
    bootstrap_port: int = 0
    """Where decode workers meet this prefill worker; 0: it hands over by its last chunk."""
    needs_prefill: bool = False
    """Of a decode worker: its engine computes no prompts, so without prefill workers it serves nothing."""
    device: str = ""
    """`cpu`, or the kind of accelerator it computes on; empty: not known, and taken for one."""
    taints: tuple[str, ...] = ()
    """What requests may require or prefer of a worker, such as `dynamo.topology/zone=a`."""
    default_sampling: Sampling = Sampling()
    """The model's own sampling defaults, from its generation config."""
    guided: bool = False
    """The engine can constrain output, from its first token on."""
    tool_call_parser: str | None = None
    """A parser's name; None or `auto`: by the model's template or name; `none`: no parser."""
    reasoning_parser: str | None = None
    """As above."""
    sleep_levels: tuple[int, ...] = ()
    """Levels at which the engine can sleep as it was started; see `core.ports.SleepLevel`."""
