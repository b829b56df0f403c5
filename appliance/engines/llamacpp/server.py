"""Loading of llama.cpp in this process, and calls to it. The only module that imports `xllamacpp`."""

import http.client
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.core.errors import EngineFailed, ModelFileBad
from appliance.core.model_facts import ModelFacts
from appliance.core.requests import Task
from appliance.engines.llamacpp.options import LlamaCppOptions, MemoryPlan

OnMessage = Callable[[dict[str, Any]], bool]
"""Takes one message of a stream on the engine's calling thread; True gives the stream up."""
TOKENIZE_TIMEOUT_S = 10.0
SLOT_TIMEOUT_S = 60.0  # gigabytes, on a slow disk
QUIET = -1  # llama.cpp log level under which it writes nothing


class LlamaServer:
    """A loaded model. Calls block, and may be made from several threads at once."""

    def __init__(self, server: Any, api_key: str) -> None:
        self._server = server
        self._address = str(server.listening_address).removeprefix("http://")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def complete(self, body: dict[str, Any], on_message: OnMessage) -> None:
        """Run one stream to its end, or until `on_message` returns True. Messages come on this thread."""
        self._server.handle_completions(body, on_message)

    def embed(self, token_ids: list[int]) -> dict[str, Any]:
        """The engine's answer to one embedding request; an error is in its `error` member."""
        answer: dict[str, Any] = self._server.handle_embeddings({"input": [token_ids]})
        return answer

    def pieces(self, text: str, *, special: bool) -> list[tuple[int, bytes]]:
        """The tokens of a text with the bytes of each. Raises `EngineFailed`."""
        body = {"content": text, "add_special": False, "parse_special": special, "with_pieces": True}
        return [(entry["id"], _piece_bytes(entry["piece"])) for entry in self._post("/tokenize", body)["tokens"]]

    def text(self, token_ids: list[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 come as U+FFFD. Raises `EngineFailed`."""
        return str(self._post("/detokenize", {"tokens": token_ids})["content"])

    def save_slot(self, slot: int, name: str) -> tuple[int, int]:
        """Write an idle slot into a file of the folder for slots; its tokens and the file's bytes.

        Raises `EngineFailed`.
        """
        answer = self._post(f"/slots/{slot}?action=save", {"filename": name}, SLOT_TIMEOUT_S)
        return int(answer["n_saved"]), int(answer["n_written"])

    def restore_slot(self, slot: int, name: str) -> int:
        """Fill an idle slot from a file; the tokens that it has then. Raises `EngineFailed`: then it has none."""
        return int(self._post(f"/slots/{slot}?action=restore", {"filename": name}, SLOT_TIMEOUT_S)["n_restored"])

    def _post(self, path: str, body: dict[str, Any], timeout_s: float = TOKENIZE_TIMEOUT_S) -> Any:
        # The binding has no call for this, so it goes through the engine's own loopback listener.
        connection = http.client.HTTPConnection(self._address, timeout=timeout_s)
        try:
            connection.request("POST", path, json.dumps(body), self._headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            raise EngineFailed("the engine did not answer on its own listener") from None
        finally:
            connection.close()
        if response.status != 200:
            raise EngineFailed("the engine refused what it was asked for")
        return json.loads(answer)


def load_server(
    facts: ModelFacts, plan: MemoryPlan, options: LlamaCppOptions, task: Task, slot_folder: Path | None = None
) -> LlamaServer:
    """Load a model, blocking. Raises `ModelFileBad` or `EngineFailed`. Slots are saved to `slot_folder`, if at all.

    The binding holds the interpreter lock while it loads, so nothing else in this process runs meanwhile.
    """
    _check_readable(facts)
    # llama.cpp's OpenMP threads would spin between steps and take the cores that the rest of the box needs.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    import xllamacpp  # here and not above: it is heavy, and must see the variable

    api_key = secrets.token_urlsafe(32)
    params = xllamacpp.CommonParams()
    params.model.path = str(facts.path)
    _fill_listener(params, api_key)
    _fill_sizes(params, plan, options)
    if slot_folder is not None:
        params.slot_save_path = f"{slot_folder}/"
    _fill_choices(xllamacpp, params, options)
    if task == "embed":
        _fill_embedding(xllamacpp, params, facts, plan, options)
    try:
        server = xllamacpp.Server(params)
        # The engine's loop starts on its own thread, and never ends if it is stopped before it began: freeing a model
        # at once hung for ever. This question is answered by the loop, so it runs by then.
        server.handle_metrics()
        return LlamaServer(server, api_key)
    except RuntimeError:  # the binding gives no reason; `models/` has looked at the file before
        raise ModelFileBad(f"llama.cpp cannot load {facts.name}: it does not run this kind of file") from None
    except MemoryError:
        raise EngineFailed(f"not enough memory to load {facts.name}") from None


def _check_readable(facts: ModelFacts) -> None:
    try:
        with facts.path.open("rb"):
            pass
    except OSError as error:
        raise ModelFileBad(f"cannot read the model file of {facts.name}: {error.strerror}") from None


def _fill_listener(params: Any, api_key: str) -> None:
    """The listener cannot be switched off: any free port of loopback, behind a key that nobody else knows."""
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [api_key]
    params.ui = False
    params.endpoint_metrics = True
    params.verbosity = QUIET


def _fill_sizes(params: Any, plan: MemoryPlan, options: LlamaCppOptions) -> None:
    params.n_parallel = plan.slots
    params.n_ctx = plan.total_tokens
    params.n_batch = options.batch_size
    params.n_ubatch = options.ubatch_size
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads_batch
    params.n_gpu_layers = options.gpu_layers
    params.main_gpu = options.main_gpu
    params.kv_unified = False  # each slot owns its cache: what it holds can be told exactly
    params.cache_ram_mib = 0  # no host-side prompt cache behind our back, for the same reason
    params.warmup = False


def _fill_choices(xllamacpp: Any, params: Any, options: LlamaCppOptions) -> None:
    cache_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options.kv_cache_type.upper()}")
    params.cache_type_k = params.cache_type_v = cache_type
    flash = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[options.flash_attn]
    params.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}")


def _fill_embedding(xllamacpp: Any, params: Any, facts: ModelFacts, plan: MemoryPlan, options: LlamaCppOptions) -> None:
    params.embedding = True
    # An embedding needs its whole input in one step.
    params.n_batch = params.n_ubatch = plan.context
    pooling = options.pooling
    if pooling == "auto" and facts.task != "embed":
        pooling = "mean"  # a generative model names no pooling of its own
    if pooling != "auto":
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling.upper()}")


def _piece_bytes(piece: str | list[int]) -> bytes:
    """The engine writes a piece as text, or as numbers when it is no UTF-8."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)
