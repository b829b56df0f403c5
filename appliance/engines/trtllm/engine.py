"""`TrtLlmEngine`: TensorRT-LLM's server behind the Engine port, text in and text out."""

from appliance.core.errors import NotImplementedHere
from appliance.core.ports import SleepLevel
from appliance.engines.foreign.engine import CONTROL_S, ForeignEngine, Probed
from appliance.engines.foreign.options import flag_words
from appliance.engines.foreign.ports import LOOPBACK
from appliance.engines.http.client import HttpClient
from appliance.engines.remote.engine import UNKNOWN_CONTEXT
from appliance.engines.remote.listing import list_models

MEMORY_S = 120.0
OURS = ("max_batch_size", "max_seq_len")


class TrtLlmEngine(ForeignEngine):
    """Ability beside those of `ForeignEngine`: `Sleeper`. Its cache events are not asked for: text is not hashed."""

    name = "trtllm"
    module = ("-m", "tensorrt_llm.commands.serve")
    program = ("trtllm-serve",)
    speaks_tokens = False
    _asleep = False

    async def sleep(self, level: SleepLevel) -> None:
        """See `Sleeper`."""
        if level == 2:
            raise NotImplementedHere("cannot sleep at level 2: this engine would not find its weights again")
        self.checked(await self._control("POST", "/release_memory", {}, deadline_s=MEMORY_S))
        self._asleep = True

    async def wake(self) -> None:
        """See `Sleeper`."""
        self.checked(await self._control("POST", "/resume_memory", {}, deadline_s=MEMORY_S))
        self._asleep = False

    async def is_asleep(self) -> bool:
        """See `Sleeper`. The server has no route to ask; this is what was last done."""
        self.checked(await self._control("GET", "/health"))
        return self._asleep

    async def read_metrics(self) -> bytes:
        """See `MetricsSource`. `/metrics` of this server is JSON and is emptied by reading: it is left alone."""
        answer = await self._control("GET", "/prometheus/metrics")
        return answer.body if answer.ok else b""

    def _flags(self, port: int) -> list[str]:
        given, options = self._given, self._options
        words = [str(self._facts.path), "--host", LOOPBACK, "--port", str(port)]
        context = str(options.context_length) if options.context_length else given.passed.get("max_seq_len")
        words += ["--max_seq_len", context] if context else []
        words += ["--max_batch_size", str(given.max_num_seqs)]
        passed = flag_words(given.passed, OURS, negatable=False)
        return [*words, *map(_underscored, passed)]

    async def _probe(self, client: HttpClient) -> Probed:
        listed = await list_models(client)
        if listed is not None and len(listed) == 1:  # it names a model after its folder
            entry = listed[0]
            self._served_there = entry.name
        else:
            entry = self._find_served(listed, client.address.url)
        version = await client.request("GET", "/version", deadline_s=CONTROL_S)
        context = entry.context_length or self._options.context_length or UNKNOWN_CONTEXT
        return Probed(version=str(version.json().get("version", "")) if version.ok else "", context_length=context)


def _underscored(word: str) -> str:
    """Flags of this server are written with underscores."""
    return f"--{word[2:].replace('-', '_')}" if word.startswith("--") else word
