"""Command lines of upstream's Python modules in terms of our own executable. Pure text work."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

EXECUTABLE = "dynamo-appliance"
ROLES = ("frontend", "worker", "planner", "router", "indexer")
ENGINES = ("auto", "llamacpp", "mocker", "vllm", "sglang", "trtllm", "remote")
ENGINE_MODULES = ("mocker", "vllm", "sglang", "trtllm")
ROLE_MODULES = ("frontend", "planner", "router")
SHELLS = ("sh", "bash", "dash", "ash", "zsh")

WORKER_FLAGS = {
    "--model": "--model",
    "--model-path": "--model",
    "--served-model-name": "--served-model-name",
    "--model-name": "--served-model-name",
    "--context-length": "--context-length",
    "--max-model-len": "--context-length",
    "--max-seq-len": "--context-length",
    "--tool-call-parser": "--tool-call-parser",
    "--dyn-tool-call-parser": "--tool-call-parser",
    "--reasoning-parser": "--reasoning-parser",
    "--dyn-reasoning-parser": "--reasoning-parser",
}
"""Upstream's flags of an engine module that are flags of our worker; all others go to the engine."""

MODE = "--disaggregation-mode"
MODES = {"agg": "agg", "aggregated": "agg", "null": "agg", "prefill": "prefill", "decode": "decode"}
MODE_SWITCHES = {"--is-prefill-worker": "prefill", "--is-decode-worker": "decode"}
"""Older names of the halves of a split model."""

REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class NotRunnable(ValueError):
    """A command that is no role of ours; the text says why."""


def map_command(command: Sequence[str], args: Sequence[str]) -> tuple[str, ...]:
    """Verb and flags for our executable of a container's command and args. Raises `NotRunnable`."""
    if not command:
        return _checked([*args])
    program = PurePosixPath(command[0]).name
    rest = [*command[1:], *args]
    if program == EXECUTABLE:
        return _checked(rest)
    if program in SHELLS:
        raise NotRunnable("a shell does not run on a box; write the command as a list of words")
    if program.startswith("python"):
        return _map_python(rest)
    raise NotRunnable(f"cannot run {command[0]!r} on a box; only {EXECUTABLE} and python3 -m dynamo.<module> are run")


def _map_python(words: list[str]) -> tuple[str, ...]:
    while words and words[0] != "-m" and words[0].startswith("-"):
        words = words[1:]  # an interpreter option, such as -u
    if len(words) < 2 or words[0] != "-m":
        raise NotRunnable("cannot run Python code on a box; only python3 -m dynamo.<module> is run")
    module, args = words[1], words[2:]
    package, _, name = module.partition(".")
    if module == "appliance":
        return _checked(args)
    if package == "dynamo" and name in ENGINE_MODULES:
        return ("worker", "--engine", name, *map_worker_args(args))
    if package == "dynamo" and name in ROLE_MODULES:
        return (name, *args)
    known = ", ".join(f"dynamo.{item}" for item in (*ROLE_MODULES, *ENGINE_MODULES))
    raise NotRunnable(f"cannot run the module {module} on a box; known: {known}")


def _checked(argv: list[str]) -> tuple[str, ...]:
    if not argv:
        raise NotRunnable("needs args that name a role, such as [worker, --engine, llamacpp, --model, PATH]")
    if any(character.isspace() for character in argv[0]):
        raise NotRunnable("a shell line does not run on a box; write the command as a list of words")
    if argv[0] not in ROLES:
        raise NotRunnable(f"{argv[0]!r} is no role; known: " + ", ".join(ROLES))
    if argv[0] == "worker":
        engine = flag_value(argv, "--engine")
        if engine is not None and engine not in ENGINES:
            raise NotRunnable(f"{engine!r} is no engine; known: " + ", ".join(ENGINES))
    return tuple(argv)


def map_worker_args(args: Sequence[str]) -> list[str]:
    """Flags of an upstream engine module as flags of our worker; unknown ones become `--engine-arg K=V`."""
    mapped: list[str] = []
    for flag, value in split_flags(args):
        if flag == MODE and value in MODES:
            mapped += [MODE, MODES[value]]
        elif flag in MODE_SWITCHES and value is None:
            mapped += [MODE, MODE_SWITCHES[flag]]
        elif ours := WORKER_FLAGS.get(flag):
            mapped += [ours, value] if value is not None else [ours]
        else:
            mapped += ["--engine-arg", f"{flag.lstrip('-')}={'true' if value is None else value}"]
    return mapped


def split_flags(args: Sequence[str]) -> list[tuple[str, str | None]]:
    """Flags with their values: `--a 1`, `--a=1`, `--a` (None) and `--a 1 2` ("1 2"). Raises `NotRunnable`."""
    found: list[tuple[str, str | None]] = []
    for word in args:
        if _is_flag(word):
            flag, equals, value = word.partition("=")
            found.append((flag, value if equals else None))
        elif found:
            flag, before = found[-1]
            found[-1] = (flag, word if before is None else f"{before} {word}")
        else:
            raise NotRunnable(f"the first argument {word!r} is no flag")
    return found


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit() and word[1] != "."


def flag_value(argv: Sequence[str], flag: str) -> str | None:
    """The last value of a flag of our own argv, None when it is absent."""
    value = None
    for at, word in enumerate(argv):
        if word == flag and at + 1 < len(argv):
            value = argv[at + 1]
        elif word.startswith(flag + "="):
            value = word.partition("=")[2]
    return value


def expand_references(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable, as a kubelet does: `$$` is a plain `$`, an unknown name stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else env.get(name, match.group(0))

    return REFERENCE.sub(replacement, text)
