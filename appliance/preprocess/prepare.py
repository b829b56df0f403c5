"""From a client's request to what an engine is asked for: prompt text, token ids, limits, a request per choice."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.core.errors import EngineFailed, InvalidRequest
from appliance.core.generation import GenerationRequest
from appliance.core.requests import EngineRequest, Guided, ModelCard, Sampling, StopConditions
from appliance.preprocess.answer_parsing import AnswerParsing, choose_parsers, plan_parsing
from appliance.preprocess.guided_calls import call_constraint
from appliance.preprocess.history import holds_calls_or_reasoning, prepare_history, thinking_args
from appliance.preprocess.measure import Measure, Unmeasured
from appliance.preprocess.messages import Message, open_arguments, plain_prompt, raw_prompt
from appliance.preprocess.template import ChatTemplate
from appliance.preprocess.tokenizer import TextTokenizer

AskWorker = Callable[[str], Awaitable[list[int]]]
"""The worker's own tokenizer, special tokens parsed."""
TEMPLATE_VARIABLES_OF_OURS = frozenset({"messages", "tools", "bos_token", "eos_token"})


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt of a request, ready for an engine."""

    token_ids: list[int]
    """Empty when the worker takes text."""
    text: str
    """The prompt as text; empty when the client sent token ids."""
    max_tokens: int
    """Output tokens that the client wants and the context has room for."""
    messages: list[dict[str, Any]] | None = None
    """The conversation, when the worker takes text and makes the prompt itself."""


class PromptBuilder:
    """Prepares requests for one model."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: TextTokenizer | None,
        template: ChatTemplate | None,
        tool_template: ChatTemplate | None = None,
        ask_worker: AskWorker | None = None,
        measure: Measure | None = None,
    ) -> None:
        """Without a tokenizer text is tokenized by `ask_worker`, for vocabularies that only the engine knows."""
        self._measure = measure or Unmeasured()
        self._card = card
        self._tokenizer = tokenizer
        self._template = template
        self._tool_template = tool_template
        self._ask_worker = ask_worker
        for_tools = tool_template or template
        source = "" if for_tools is None else for_tools.source
        self.parsers = choose_parsers(card.tool_call_parser, card.reasoning_parser, source, card.name)
        """What the model's output goes through."""

    async def prepare(self, request: GenerationRequest) -> list[Prepared]:
        """One `Prepared` per prompt of the request.

        Raises `InvalidRequest` when a prompt is empty, too long, or refused by the template, and for a constraint on
        the output that the engine cannot keep. Cancelling loses nothing.
        """
        self._constraint(request)
        if self._card.io == "text":
            return self._prepare_text(request)
        if request.messages is not None:
            text, ids = await self._chat_prompt(request)
            return [self._fit(ids, text, request, "messages")]
        prompts: list[str | list[int]] = [request.token_ids] if request.token_ids else request.prompts or [""]
        return [await self._prepare_prompt(prompt, request) for prompt in prompts]

    def engine_requests(self, prepared: list[Prepared], request: GenerationRequest) -> list[EngineRequest]:
        """The streams to ask for: `n` for each prompt, in the order of the answer's choices.

        A seed rises by one from choice to choice, so that the choices differ and can be had again.
        """
        if request.n == 1 and len(prepared) == 1:
            return [self._engine_request(prepared[0], request, 0)]
        choices = [prompt for prompt in prepared for _ in range(request.n)]
        return [self._engine_request(prompt, request, index) for index, prompt in enumerate(choices)]

    def parsing(self, request: GenerationRequest, prepared: list[Prepared]) -> AnswerParsing | None:
        """How the answers to a prepared request are parsed; None when all of the output is text."""
        return plan_parsing(request, self.parsers, prepared[0].text)

    async def count(self, request: GenerationRequest) -> int | None:
        """Tokens of a chat prompt, however long; None when only the worker can tell.

        Raises `InvalidRequest` as `prepare` does. Cancelling loses nothing.
        """
        if self._card.io == "text":
            return None
        _, ids = await self._chat_prompt(request)
        return len(ids)

    async def chat_tokens(self, request: GenerationRequest) -> list[int]:
        """Token ids of a chat prompt, however long. Raises `InvalidRequest` as `prepare` does."""
        _, ids = await self._chat_prompt(request)
        return ids

    async def tokens(self, text: str, *, with_begin: bool) -> list[int]:
        """Token ids of any text, maybe none; `with_begin` puts the begin token in front if prompts have one."""
        ids = await self._encode(text)
        return self._with_begin(ids) if with_begin else ids

    async def input_ids(self, text: str | list[int]) -> list[int]:
        """Token ids of an embedding input. Raises `InvalidRequest` when it is empty or longer than the context."""
        ids = await self._ids_of_prompt(text, "input")
        if len(ids) > self._card.context_length:
            raise self._too_long(len(ids), "input")
        return ids

    async def _chat_prompt(self, request: GenerationRequest) -> tuple[str, list[int]]:
        """Text and token ids of a conversation; the text is empty when the client sent the ids."""
        if request.token_ids:
            text, ids = "", self._checked_ids(request.token_ids, "nvext")
        else:
            text = self._chat_text(request)
            ids = await self._encode(text)
            if self._template is None or request.use_raw_prompt:  # templates write the begin token themselves
                ids = self._with_begin(ids)
        if not ids:
            raise InvalidRequest("the messages make an empty prompt", param="messages")
        return text, ids

    async def _prepare_prompt(self, prompt: str | list[int], request: GenerationRequest) -> Prepared:
        ids = await self._ids_of_prompt(prompt, "prompt")
        text = prompt if isinstance(prompt, str) else ""
        return self._fit(ids, text, request, "prompt")

    def _chat_text(self, request: GenerationRequest) -> str:
        messages = request.messages
        if not messages:
            raise InvalidRequest("messages may not be empty", param="messages")
        if request.use_raw_prompt:
            return raw_prompt(messages)
        template = self._tool_template if request.tools and self._tool_template else self._template
        if holds_calls_or_reasoning(messages):
            messages = prepare_history(
                [open_arguments(message) for message in messages],
                template_source=None if template is None else template.source,
                reasoning_parser=self.parsers.reasoning,
            )
        if template is None:
            return plain_prompt(messages)
        started = self._measure.now()
        text = self._render(template, messages, request)
        self._measure.observe("template", self._measure.now() - started)
        return text

    def _render(self, template: ChatTemplate, messages: list[Message], request: GenerationRequest) -> str:
        thinking = request.thinking
        if thinking is None and self._constraint(request) is not None:
            thinking = False  # the output has no room for reasoning
        variables = thinking_args(self.parsers.reasoning, thinking)
        if not request.template_args:
            return template.render(messages, tools=request.tools, extra=variables)
        return template.render(
            messages, tools=request.tools, **_template_arguments({**variables, **request.template_args})
        )

    def _constraint(self, request: GenerationRequest) -> Guided | None:
        """What the output must look like. Raises `InvalidRequest` for two of that, or an engine that cannot do it."""
        if request.guided is None and request.tool_choice in ("auto", "none"):
            return None  # most requests
        call = call_constraint(request.tools, request.tool_choice, parallel=request.parallel_tool_calls)
        if call is not None and request.guided is not None:
            raise InvalidRequest(
                "output cannot be both a demanded tool call and of a given format", param="tool_choice"
            )
        wanted = call or request.guided
        if wanted is not None and not self._card.guided and self._card.task == "generate":
            what = "demand a tool call" if call else "constrain the output"
            raise InvalidRequest(
                f"cannot {what}: the engine {self._card.engine!r} of this model cannot follow a grammar",
                param="tool_choice" if call else "response_format",
            )
        return wanted

    async def _ids_of_prompt(self, prompt: str | list[int], param: str) -> list[int]:
        """Ids of a plain prompt. An empty one is the begin token, or else the end token, as if after a text."""
        if isinstance(prompt, list):
            ids = self._checked_ids(prompt, param)
        else:
            ids = self._with_begin(await self._encode(prompt))
        if not ids and prompt == "" and self._card.task == "generate":
            ids = list(self._card.eos_token_ids[:1])
        if not ids:
            raise InvalidRequest(f"{param} may not be empty", param=param)
        return ids

    def _checked_ids(self, ids: list[int], param: str) -> list[int]:
        size = self._card.vocab_size
        if any(token_id < 0 or (size and token_id >= size) for token_id in ids):
            raise InvalidRequest(f"{param} holds a token id outside of the vocabulary of {size} tokens", param=param)
        return ids

    async def _encode(self, text: str) -> list[int]:
        if self._tokenizer is not None:
            started = self._measure.now()
            ids = await self._tokenizer.encode_async(text)
            self._measure.observe("tokenize", self._measure.now() - started)
            return ids
        if self._ask_worker is not None:
            return await self._ask_worker(text) if text else []
        raise EngineFailed(f"cannot tokenize for the model {self._card.name!r}: it has no tokenizer here")

    def _with_begin(self, ids: list[int]) -> list[int]:
        if not self._card.add_bos or self._tokenizer is None:
            return ids
        begin = self._tokenizer.token_id(self._card.bos_token)
        return ids if begin is None or ids[:1] == [begin] else [begin, *ids]

    def _fit(self, ids: list[int], text: str, request: GenerationRequest, param: str) -> Prepared:
        """The prompt with as many output tokens as wanted and possible. Raises `InvalidRequest` without room."""
        used = len(ids)
        room = self._card.context_length - used
        if room < 1:
            raise self._too_long(used, param)
        wanted = request.max_tokens
        return Prepared(token_ids=ids, text=text, max_tokens=room if wanted is None or wanted > room else wanted)

    def _too_long(self, used: int, param: str) -> InvalidRequest:
        verb = "have" if param == "messages" else "has"
        return InvalidRequest(
            f"the model's maximum context length is {self._card.context_length} tokens, but the {param} {verb} {used}; "
            "please shorten it",
            param=param,
        )

    def _prepare_text(self, request: GenerationRequest) -> list[Prepared]:
        """For workers that take text: nothing is counted here, the worker's server does it."""
        if request.token_ids or any(isinstance(prompt, list) for prompt in request.prompts or []):
            raise InvalidRequest(f"the model {request.model!r} takes text only, no token ids", param="prompt")
        limit = self._card.context_length if request.max_tokens is None else request.max_tokens
        limit = min(limit, self._card.context_length)
        if request.messages is None:
            prompts = [prompt for prompt in request.prompts or [""] if isinstance(prompt, str)]
            return [Prepared(token_ids=[], text=prompt, max_tokens=limit) for prompt in prompts]
        if not request.messages:
            raise InvalidRequest("messages may not be empty", param="messages")
        return [Prepared(token_ids=[], text="", max_tokens=limit, messages=request.messages)]

    def _engine_request(self, prepared: Prepared, request: GenerationRequest, index: int) -> EngineRequest:
        takes_text = self._card.io == "text" and prepared.messages is None
        return EngineRequest(
            id=request.id,
            model=request.model,
            token_ids=prepared.token_ids,
            messages=prepared.messages,
            tools=None if prepared.messages is None else request.tools,
            template_args={} if prepared.messages is None else request.template_args,
            text=prepared.text if takes_text else None,
            sampling=_with_seed(request.sampling, index) if index else request.sampling,
            stop=StopConditions(
                max_tokens=prepared.max_tokens,
                min_tokens=min(request.min_tokens, prepared.max_tokens),
                stop_token_ids=() if request.ignore_eos else self._card.eos_token_ids,
                ignore_eos=request.ignore_eos,
            ),
            guided=self._constraint(request),
            logprobs=request.logprobs,
            priority=request.priority,
        )


def _with_seed(sampling: Sampling, index: int) -> Sampling:
    if sampling.seed is None:
        return sampling
    return msgspec.structs.replace(sampling, seed=sampling.seed + index)


def _template_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The client's template variables, without those that are not its to set."""
    extra = {name: value for name, value in given.items() if name not in TEMPLATE_VARIABLES_OF_OURS}
    add = extra.pop("add_generation_prompt", True)
    return {"add_generation_prompt": bool(add), "extra": extra}
