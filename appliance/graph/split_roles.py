"""The part of split requests that a component's type gives its workers, when their arguments name none."""

from collections.abc import Iterator, Sequence

from appliance.graph.arguments import MODE, MODE_SWITCHES, MODES, flag_value
from appliance.graph.problem import Problem, warning

SPLIT_TYPES = ("prefill", "decode")
ENGINES_WITH_HALVES = ("auto", "llamacpp", "mocker", "vllm", "sglang")
ENGINE_ARG = "--engine-arg"


def with_split_role(argv: tuple[str, ...], component_type: str, path: str) -> tuple[tuple[str, ...], list[Problem]]:
    """The argv of a worker with the mode of its component's type; `path` is the component's, for warnings.

    A mode that the arguments name stays. An engine without halves runs whole requests.
    """
    if argv[0] != "worker" or component_type not in SPLIT_TYPES:
        return argv, []
    named = _named_mode(argv)
    if named is not None:
        same = named == component_type
        return argv, [] if same else [warning(f"{path}.type", f"the arguments ask for {named}, which is what runs")]
    engine = flag_value(argv, "--engine") or "auto"
    if engine not in ENGINES_WITH_HALVES:
        return argv, [warning(f"{path}.type", f"{engine} runs whole requests on a box, no halves of them")]
    return (*argv, MODE, component_type), []


def _named_mode(argv: Sequence[str]) -> str | None:
    """The mode that a worker's arguments name: by its flag, else among the engine's arguments."""
    mode = flag_value(argv, MODE)
    switches = {flag.strip("-").replace("-", "_"): half for flag, half in MODE_SWITCHES.items()}
    for key, value in _engine_args(argv):
        if key == "disaggregation_mode":
            mode = mode or value
        elif key in switches and value == "true":
            mode = mode or switches[key]
    return None if mode is None else MODES.get(mode, mode)


def _engine_args(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    for at, word in enumerate(argv):
        if word == ENGINE_ARG and at + 1 < len(argv):
            pair = argv[at + 1]
        elif word.startswith(f"{ENGINE_ARG}="):
            pair = word.removeprefix(f"{ENGINE_ARG}=")
        else:
            continue
        key, _, value = pair.partition("=")
        yield key.replace("-", "_"), value
