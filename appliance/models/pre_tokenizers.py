"""How each kind of byte-level BPE vocabulary cuts text into words before it merges: patterns by the file's `pre` name.

A kind stands here only when a test has shown that its patterns cut like the embedded engine does; for all others the
worker is asked to tokenize.
"""

from dataclasses import dataclass

_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_UPPER, _LOWER = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"  # the engine tells case apart in ASCII only
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


def _cased(letters_then: str, numbers: str) -> str:
    """Words that change at a lower-to-upper step, as newer vocabularies cut them."""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{letters_then}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{letters_then}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


@dataclass(frozen=True)
class PreTokenizer:
    """Patterns applied one after the other, each to what the one before left: matches and gaps become pieces."""

    patterns: tuple[str, ...]
    whole_words: bool = False
    """A word that is a token as a whole is taken without merging."""


_FAMILIES = {
    PreTokenizer((GPT2,)): "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 mellum gigachat a.x-4.0",
    PreTokenizer((r"\p{N}", GPT2)): "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")): "falcon",
    PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): "default",
    PreTokenizer((LLAMA3,), whole_words=True): "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    PreTokenizer((LLAMA3,)): "dbrx smaug-bpe glm4 chatglm-bpe",
    PreTokenizer((QWEN2,)): "qwen2 stablelm2 deepseek-r1-qwen megrez hunyuan solar-open grok-2",
    PreTokenizer((QWEN35,)): "qwen35",
    PreTokenizer((r"\p{N}{1,3}", CJK, DEEPSEEK3)): "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    PreTokenizer((_cased(_CONTRACTIONS + "?", r"\p{N}{1,3}"),)): "gpt-4o llama4 kanana2 minimax-m2",
    PreTokenizer((_cased("", r"\p{N}"),), whole_words=True): "tekken",
}

PRE_TOKENIZERS = {name: family for family, names in _FAMILIES.items() for name in names.split()}
"""By the `tokenizer.ggml.pre` value of the file."""
