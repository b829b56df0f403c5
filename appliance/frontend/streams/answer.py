"""One request's answer: joins its choices, and sends them as a stream or in one piece."""

import time
from collections.abc import Callable, Sequence

import msgspec
import trio

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.frontend.streams.choice import ChoiceStream
from appliance.frontend.streams.outcome import Members, Usage
from appliance.frontend.streams.seams import NOT_ROUTED, AnswerFormat, Client, Routed, TextTools
from appliance.web.awake import AWAKE

NO_CACHE = (("cache-control", "no-cache"),)


class PromptFacts(msgspec.Struct, frozen=True, gc=False):
    """What an answer must know of one prompt."""

    tokens: int
    echo: str = ""
    """Text to show in front of the prompt's choices."""


class Answer:
    """The choices of one request and the one task that waits for them.

    The link's pump calls the choices, which write to the client directly; the task sleeps until there is something
    to do. Nothing goes to the client before the first event, so an error until then can become an HTTP error. Only a
    protocol with pings opens its stream before that, in `ping`; from then on there can be no HTTP error.
    """

    def __init__(
        self,
        request: GenerationRequest,
        client: Client,
        format: AnswerFormat,
        tools: TextTools,
        prompts: Sequence[PromptFacts],
        preamble: bytes = b"",
        received_at: float | None = None,
    ) -> None:
        """`preamble` goes in front of a stream's first event; `received_at` is the request's `time.perf_counter`."""
        self.streaming = request.stream
        self.started = False
        """The client has got, or will get, bytes of an answer: too late for an HTTP error."""
        self.shown = False
        """The client has got, or will get, a part of the answer itself."""
        self.error: ApplianceError | None = None
        """What ended the stream after it had started."""
        self._request = request
        self._client = client
        self._format = format
        self._prompts = prompts
        self._preamble = preamble
        self._received_at = time.perf_counter() if received_at is None else received_at
        self._sleeper: trio.lowlevel.Task | None = None
        """The task in `wait`, while it has nothing to do."""
        self._over = False
        self._final_usage: Usage | None = None
        self.routed: Routed = NOT_ROUTED
        self.may_move: Callable[[int], bool] = _never
        """Whether the choice of an index can go on elsewhere after a retryable error; set by who runs the choices."""
        self.choices: list[ChoiceStream] = []
        """By index; choice `i` answers prompt `i // n`."""
        for index in range(len(prompts) * request.n):
            frames = format.frames(index) if request.stream else None
            echo = prompts[index // request.n].echo
            self.choices.append(ChoiceStream(self, index, request, frames, tools, echo))
        self._running = len(self.choices)

    async def wait(self) -> None:
        """Return when the whole answer is with the client; the unstreamed one is sent here.

        Raises the first choice's error when that choice may still move, or nothing had been sent: then `failed` names
        the choices, `ChoiceStream.resume` or `restart` takes one up again, and this may be called again. A caller that
        gives up calls `fail`, because some of the answer may have been shown. Other errors end the stream and are in
        `error`. Raises `ClientStalled` when the client is gone. Cancelling loses nothing. No deadline of its own:
        who runs the choices sees to it that they end, and the connection has one for a slow client.
        """
        while not self._over:
            for choice in self.choices:
                if choice.error is not None:
                    raise choice.error
            if self._client.pending or self._client.broken:
                await self._client.drained()
            else:
                self._sleeper = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_sleeping)
        if not self.started:
            self.started = self.shown = True
            self._client.respond(200, self._document())
        await self._client.drained()

    def fail(self, error: ApplianceError, *, final: bool = False) -> bool:
        """End the stream with an error. False, and nothing happens, while it may still become an HTTP error.

        Without `final` it is also False while another attempt is possible: the client has seen nothing but pings.
        """
        if self._over or not (self.started if final else self.shown):
            return False
        self.error = error
        self._client.write(self._format.failure(error))
        self._finish_stream()
        return True

    @property
    def failed(self) -> list[int]:
        """Indices of the choices that failed."""
        return [choice.index for choice in self.choices if choice.error is not None]

    @property
    def first_at(self) -> float | None:
        """`time.perf_counter` of the first token of any choice."""
        first: float | None = None
        for choice in self.choices:
            if choice.first_at is not None and (first is None or choice.first_at < first):
                first = choice.first_at
        return first

    @property
    def last_step_at(self) -> float:
        """`time.perf_counter` of the latest tokens of any choice; 0 before there are any."""
        last = 0.0
        for choice in self.choices:
            if choice.last_step_at > last:
                last = choice.last_step_at
        return last

    @property
    def gaps(self) -> list[float]:
        """Seconds between steps, of all choices."""
        if len(self.choices) == 1:
            return self.choices[0].gaps
        return [gap for choice in self.choices for gap in choice.gaps]

    def usage(self) -> Usage:
        """Tokens up to now."""
        if self._final_usage is not None:
            return self._final_usage
        usage = self._count_usage()
        if not self._running:
            self._final_usage = usage
        return usage

    def _count_usage(self) -> Usage:
        prompts, produced, cached, reasoning, each = 0, 0, 0, 0, self._request.n
        for choice in self.choices:
            produced += len(choice.token_ids)
            if choice.parsed is not None:
                reasoning += choice.parsed.reasoning_tokens
            if choice.index % each:
                continue  # its prompt was counted with another choice
            seen = choice.engine_usage
            # A prompt that went out as text was counted by the engine only.
            tokens = self._prompts[choice.index // each].tokens or (0 if seen is None else seen.prompt_tokens)
            prompts += tokens
            if seen is not None and seen.cached_tokens:
                # A choice that moved had some of its own output in the second prompt.
                cached += min(seen.cached_tokens, tokens)
        return Usage(prompts, produced, cached, reasoning)

    def produced(self) -> int:
        """Output tokens up to now."""
        produced = 0
        for choice in self.choices:
            produced += len(choice.token_ids)
        return produced

    def timing(self) -> Members:
        """`nvext.timing` as it is now, in milliseconds."""
        elapsed = time.perf_counter() - self._received_at
        members: Members = {"request_received_ms": round((time.time() - elapsed) * 1e3, 3)}
        if self.first_at is not None:
            members["ttft_ms"] = round((self.first_at - self._received_at) * 1e3, 3)
        members["total_time_ms"] = round(elapsed * 1e3, 3)
        return members | self.routed.timing(self._received_at, self.first_at)

    def extras(self) -> Members:
        """Members of `nvext` that are known at the end of a choice, as far as they were asked for."""
        members: Members = {}
        if "worker_id" in self._request.extra_fields and (workers := self.routed.worker_ids()):
            members["worker_id"] = workers
        if "timing" in self._request.extra_fields:
            members["timing"] = self.timing()
        return members

    def ping(self) -> None:
        """Break the silence of a stream that has not begun, when the protocol has something to do it with."""
        if self.streaming and not self.shown and not self._over and (ping := self._format.ping()):
            self._start_stream()
            self._client.write(ping)
            self._client.flush()

    def release(self) -> None:
        """Nobody will ask for anything any more.

        Lets go of what holds on to the answer in turn, so that a request's objects are freed when it ends. Left to
        the garbage collector they cost a tenth of a short request.
        """
        self.may_move = _never
        self.choices = []

    # Called by the choices, in the pump.

    def put(self, event: bytes) -> None:
        """Queue an event, behind the stream's head when it is the first. Does nothing once the stream is over."""
        if not self.shown:
            self.shown = True
            self._start_stream()
        self._client.write(event)

    def flush(self) -> None:
        """Send what was queued in one write; wakes the task when the client does not take it all."""
        if self._over:
            return  # everything was sent, or is about to be
        client = self._client
        client.flush()
        if client.pending or client.broken:
            self._wake()

    def choice_ended(self) -> None:
        """A choice has shown its last event."""
        self._running -= 1
        if self._running or self._over:
            return
        if self.streaming:
            self.put(self._format.closing(self.usage() if self._request.include_usage else None))
            self._finish_stream()
        else:
            self._finish()

    def choice_failed(self, index: int, error: ApplianceError) -> None:
        """A choice ended without a last chunk."""
        if (error.retryable and self.may_move(index)) or not self.fail(error):
            self._wake()

    def _start_stream(self) -> None:
        if self.started:
            return
        self.started = True
        self._client.start_stream(headers=NO_CACHE)
        self._client.write(self._preamble + self._format.opening(sum(prompt.tokens for prompt in self._prompts)))

    def _finish_stream(self) -> None:
        self._client.end()
        self._finish()

    def _finish(self) -> None:
        self._over = True
        self._wake()

    def _wake(self) -> None:
        """Let `wait` look again. Cheaper than an event, which any number of tasks may wait for."""
        sleeper = self._sleeper
        if sleeper is not None:
            self._sleeper = None
            trio.lowlevel.reschedule(sleeper, AWAKE)

    def _stop_sleeping(self, _: object) -> trio.lowlevel.Abort:
        """The sleeping task was cancelled."""
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _document(self) -> bytes:
        nvext: Members | None = None
        if self._request.extra_fields:
            nvext = self.extras()
            if "token_ids" in self._request.extra_fields:
                nvext["token_ids"] = [token for choice in self.choices for token in choice.token_ids]
        outcomes = []
        for choice in self.choices:
            outcomes.append(choice.outcome())  # noqa: PERF401 - of one choice, a comprehension costs more than this
        return self._format.document(outcomes, self.usage(), nvext)


def _never(_: int) -> bool:
    return False
