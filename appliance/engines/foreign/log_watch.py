"""What the log lines of a starting server say: how far it is, and why it fails. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from appliance.core.errors import ApplianceError, EngineFailed, ModelFileBad, UsageError

LONGEST_LINE = 4096
LINE_END = re.compile(rb"[\r\n]")

Explain = Callable[[str, "re.Match[str]"], ApplianceError]


class PortTaken(EngineFailed):
    """Someone else has got the port that was chosen for the server."""


def _final(text: str) -> Explain:
    return lambda engine, match: UsageError(text.format(engine, *match.groups()))


def _bad_model(text: str) -> Explain:
    return lambda engine, match: ModelFileBad(text.format(engine, *match.groups()))


def _passing(text: str) -> Explain:
    return lambda engine, match: EngineFailed(text.format(engine, *match.groups()))


FAULTS: tuple[tuple[re.Pattern[str], Explain], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), explain)
    for pattern, explain in (
        (
            r"address already in use|Errno 98\b|is already in use|port \d+ is not available",
            lambda engine, _: PortTaken(f"the port of {engine} was taken"),
        ),
        (r"unrecognized arguments: (.+)", _final("{0} does not know the arguments {1}")),
        (r"error: argument ([^:]+): ", _final("{0} does not accept the value of its argument {1}")),
        (
            r"No module named '?(vllm|sglang|tensorrt_llm)\b",
            _final("there is no {1} in that Python; install it with `engine install {1}`"),
        ),
        (
            r"larger than the maximum number of tokens that can be stored|KV cache is needed, which is larger than",
            _final("the context length does not fit into the GPU's memory beside the weights; give a smaller one"),
        ),
        (
            r"World size .* larger than the number of available GPUs|tp_size .* exceeds|not enough GPUs",
            _final("{0} is asked for more GPUs than it can see"),
        ),
        (
            r"is not a valid model identifier|Repository Not Found|does not appear to have a file named",
            _bad_model("{0} finds no such model"),
        ),
        (r"gated repo|401 Client Error", _bad_model("the hub does not let {0} download this model")),
        (
            r"Model architectures? .* (?:are|is) not supported|has no .*implementation|Unsupported architecture",
            _bad_model("{0} cannot run models of this architecture"),
        ),
        (r"safetensors_rust\.SafetensorError|invalid.*safetensors", _bad_model("the model's weights are damaged")),
        (
            r"out of memory|OutOfMemoryError|No available memory for the cache blocks|Not enough memory"
            r"|Free memory on device .* less than desired",
            _passing("the GPU has not enough free memory for {0} and this model"),
        ),
        (
            r"No CUDA GPUs are available|Failed to infer device type|Found no NVIDIA driver"
            r"|driver version is insufficient",
            _passing("{0} finds no GPU that it can use"),
        ),
        (r"No space left on device", _passing("{0} has no room left on the disk")),
    )
)
"""The first text in a log that is known decides; the first entry that matches a line says what it means."""

STAGES: tuple[tuple[re.Pattern[str], float, float, str], ...] = (
    (re.compile(r"(?:Downloading|Fetching)\D.*?(\d+)%"), 0.0, 0.3, "downloading"),
    (re.compile(r"Loading .*?checkpoint shards:\s*(\d+)%"), 0.3, 0.4, "loading weights"),
    (re.compile(r"Starting to load model|Load weight begin"), 0.3, 0.0, "loading weights"),
    (re.compile(r"Loading (?:model )?weights took|Load weight end"), 0.7, 0.0, "weights are loaded"),
    (re.compile(r"torch\.compile|Dynamo bytecode transform"), 0.75, 0.0, "compiling"),
    (re.compile(r"GPU KV cache size|KV Cache is allocated|max_total_num_tokens="), 0.8, 0.0, "cache is allocated"),
    (re.compile(r"Capturing .*?(?:graph|batches).*?(\d+)%"), 0.85, 0.1, "capturing graphs"),
    (re.compile(r"Capture cuda graph begin"), 0.85, 0.0, "capturing graphs"),
    (re.compile(r"Application startup complete|fired up and ready"), 0.98, 0.0, "starting to serve"),
)
"""Text, where it stands on the way (0..1), how far a percentage in it goes from there, and the words for it."""


@dataclass(frozen=True)
class Progress:
    """How far a start is."""

    fraction: float
    text: str


class LogWatch:
    """Takes what a server writes, in any pieces."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._rest = b""
        self.fault: ApplianceError | None = None
        """What the first known fatal text means."""
        self.progress = Progress(-1.0, "starting the server")
        self.last_line = ""

    def push(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *pieces, rest = LINE_END.split(self._rest + data)
        self._rest = rest[-LONGEST_LINE:]
        lines = [piece[:LONGEST_LINE].decode("utf-8", "replace").rstrip() for piece in pieces]
        lines = [line for line in lines if line]
        for line in lines:
            self._read(line)
        return lines

    def _read(self, line: str) -> None:
        self.last_line = line
        if self.fault is None:
            for pattern, explain in FAULTS:
                if match := pattern.search(line):
                    self.fault = explain(self._engine, match)
                    break
        for pattern, base, span, text in STAGES:
            if match := pattern.search(line):
                percent = float(match.group(1)) / 100 if pattern.groups else 0.0
                fraction = base + span * min(percent, 1.0)
                if fraction >= self.progress.fraction:
                    self.progress = Progress(fraction, text)
                break
