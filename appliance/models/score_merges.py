"""Turns the scores of a SentencePiece vocabulary into an ordered list of merges.

The engine joins, again and again, the neighbouring pair whose joined text is the token with the highest score, the
leftmost first among equals. Byte-pair merging joins the pair that stands first in its list. Both do the same when the
list holds every way to cut every token in two, ordered by the token's score, and when no two tokens share a score.
"""

from collections.abc import Iterator

from appliance.models.gguf_vocab import TokenKind, Vocabulary

MAX_TOKEN_CHARS = 256  # a longer token would need tens of thousands of cuts, and no real vocabulary has one


def merges_from_scores(vocabulary: Vocabulary) -> list[tuple[str, str]] | None:
    """Merges by falling score; None when the scores do not give one certain order."""
    tokens = set(vocabulary.tokens)
    ranked: list[tuple[float, str]] = []
    for text, kind, score in zip(vocabulary.tokens, vocabulary.kinds, vocabulary.scores, strict=True):
        if len(text) < 2 or kind is TokenKind.BYTE or _cut_out_before(text, kind):
            continue
        if len(text) > MAX_TOKEN_CHARS or _joins_unknown_characters(text, tokens):
            return None
        ranked.append((score, text))
    ranked.sort(key=lambda entry: -entry[0])
    merges: list[tuple[str, str]] = []
    last_score: float | None = None
    for score, text in ranked:
        cuts = list(_cuts(text, tokens))
        if cuts and score == last_score:
            return None
        if cuts:
            last_score = score
            merges += cuts
    return merges


def _cut_out_before(text: str, kind: TokenKind) -> bool:
    """User-defined tokens leave the text before merging, so merging never meets them; marks may arise from spaces."""
    return kind is TokenKind.USER_DEFINED and "\u2581" not in text


def _joins_unknown_characters(text: str, tokens: set[str]) -> bool:
    """The engine can join characters that are no tokens themselves; byte-pair merging cannot."""
    if all(character in tokens for character in text):
        return False
    halves = ((text[:at], text[at:]) for at in range(1, len(text)))
    return any(all(len(half) == 1 or half in tokens for half in pair) for pair in halves)


def _cuts(text: str, tokens: set[str]) -> Iterator[tuple[str, str]]:
    """All pairs of tokens that make the text.

    Of two cuts that can overlap in a text ("ab|a" and "a|ba" in "ab a ba") the one whose right part begins the token as
    well is the leftmost there, so those come first.
    """
    pairs = [(text[:at], text[at:]) for at in range(1, len(text)) if text[:at] in tokens and text[at:] in tokens]
    yield from (pair for pair in pairs if text.startswith(pair[1]))
    yield from (pair for pair in pairs if not text.startswith(pair[1]))
