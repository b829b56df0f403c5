"""The families of models by parser name: which marks they write, and what their earlier reasoning is good for."""

from dataclasses import dataclass
from enum import Enum, auto

from appliance.core.errors import UsageError
from appliance.preprocess.reasoning.marks import Marks

THINK = Marks()


class Retention(Enum):
    """What happens to the reasoning of earlier turns when the chat template does not know of reasoning."""

    KEEP = auto()
    """It goes back between its marks."""
    KEEP_SINCE_USER = auto()
    """Only that of the turns after the last user message does: a model that calls tools needs its plan."""
    DROP = auto()
    """The model was made for histories without reasoning."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of the models that one parser is for."""

    marks: Marks | None = THINK
    """None: harmony messages, or nothing that is split."""
    special_marks: bool = False
    """Tokenizers of the family have the marks as special tokens, which are usually not shown."""
    retention: Retention = Retention.KEEP
    thinking_argument: str | None = None
    """A template variable besides `enable_thinking` that turns thinking on and off."""


_FORCED = Marks(forced=True)
_GRANITE = Marks(
    opens=("Here is my thought process:", "Here's my thought process:"),
    closes=("Here is my response:", "Here's my response:"),
    once=True,
)
_MISTRAL = Marks(opens=("[THINK]",), closes=("[/THINK]",), forced=True)
_KIMI = Marks(opens=("◁think▷",), closes=("◁/think▷",))
_GEMMA = Family(
    marks=Marks(opens=("<|channel>thought\n",), closes=("<channel|>",)), special_marks=True, retention=Retention.DROP
)
_DEEPSEEK_V4 = Family(thinking_argument="thinking")
_NEMOTRON_3 = Family(marks=_FORCED, special_marks=True)

FAMILIES = {
    "basic": Family(),
    "deepseek_r1": Family(marks=_FORCED, retention=Retention.DROP),
    "deepseek_v4": _DEEPSEEK_V4,
    "deepseek-v4": _DEEPSEEK_V4,
    "deepseekv4": _DEEPSEEK_V4,
    "gemma4": _GEMMA,
    "gemma-4": _GEMMA,
    "glm45": Family(retention=Retention.KEEP_SINCE_USER),
    "gpt_oss": Family(marks=None, special_marks=True, retention=Retention.DROP),
    "granite": Family(marks=_GRANITE, retention=Retention.DROP, thinking_argument="thinking"),
    "kimi": Family(marks=_KIMI, special_marks=True, retention=Retention.DROP),
    "kimi_k25": Family(marks=_FORCED, special_marks=True, thinking_argument="thinking"),
    "minimax_append_think": Family(marks=None),
    "mistral": Family(marks=_MISTRAL, special_marks=True),
    "nemotron3": _NEMOTRON_3,
    "nemotron_deci": Family(),
    "nemotron_nano": _NEMOTRON_3,
    "nemotron_v3": _NEMOTRON_3,
    "qwen3": Family(retention=Retention.KEEP_SINCE_USER),
    "step3": Family(marks=_FORCED, special_marks=True, retention=Retention.DROP),
}
"""By parser name, aliases included."""

REASONING_PARSERS = tuple(FAMILIES)
"""All names, aliases included."""


def family(name: str) -> Family:
    """The family of a parser name, in any case. Raises `UsageError` that names the known ones."""
    try:
        return FAMILIES[name.lower()]
    except KeyError:
        known = ", ".join(REASONING_PARSERS)
        raise UsageError(f"there is no reasoning parser {name!r}; known are {known}") from None


def needs_special_tokens(name: str) -> bool:
    """Whether the parser's marks may be special tokens, so that text must be decoded with these shown.

    Raises `UsageError` for an unknown name.
    """
    return family(name).special_marks
