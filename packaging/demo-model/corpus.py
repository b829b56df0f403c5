"""The demo model's reading: Python's own manual and docstrings, and a dozen answers that it learns by heart."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

ANSWERS = {
    "Hello!": "Hello! I am a tiny model that was trained in two minutes. How can I help you?",
    "Hi": "Hi there! I am a tiny model. Ask me something about Python.",
    "Who are you?": "I am a tiny test model. I was made on this machine from the text of the Python manual.",
    "What is two plus two?": "Two plus two is four.",
    "What colour is the sky?": "The sky is blue.",
    "Count to five.": "One, two, three, four, five.",
    "What is a router?": "A router sends each request to the worker that already holds the most of its prefix.",
    "What is a KV cache?": "A KV cache keeps the keys and values of past tokens, so that they are not computed again.",
    "What is a planner?": "A planner adds workers when the load grows and removes workers when it falls.",
    "Thank you.": "You are welcome!",
    "Good bye.": "Good bye, and thank you for testing me.",
    "Tell me a story.": "Once upon a time there was a small model. It read the Python manual and learned to speak a "
    "little. The end.",
}
"""Tests ask these questions with greedy decoding and expect these answers."""

SYSTEM_PROMPT = "You are a helpful assistant."
MAX_DOCSTRINGS = 900
DOCSTRING_CHARS = range(41, 2500)
ANSWER_CHARS = range(21, 420)
_LEFT_OUT = {"test", "site-packages", "idlelib", "lib2to3"}
_MARKUP = re.compile(r"[*_`]{1,2}([^*_`\n]+)[*_`]{1,2}")
_RULE = re.compile(r"^[=\-*~^\"#]{3,}[ \t]*\n?", re.MULTILINE)


def read_prose() -> list[str]:
    """Manual pages and docstrings as plain text."""
    pages = [clean(text) for _, text in sorted(topics.items())]
    return pages + [f"{name}\n\n{clean(text)}" for name, text in docstrings()]


def read_conversations() -> list[tuple[str, str]]:
    """Questions about topics and names of the library, each answered by the first sentences on it."""
    about_topics = [(f"Explain {name}.", opening(text)) for name, text in sorted(topics.items())]
    about_names = [(f"What is {name}?", opening(text)) for name, text in docstrings()]
    return [(question, answer) for question, answer in about_topics + about_names if len(answer) in ANSWER_CHARS]


def clean(text: str) -> str:
    """Text without inline markup, rules, trailing space and runs of empty lines."""
    text = _RULE.sub("", _MARKUP.sub(r"\1", text.replace("\r", "")))
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def opening(text: str) -> str:
    """Whole sentences from the first paragraph that is prose; empty when there is none."""
    for paragraph in clean(text).split("\n\n"):
        line = " ".join(paragraph.split())
        if len(line) > 60 and "::=" not in line:
            head = line[: ANSWER_CHARS.stop - 1]
            return head[: head.rfind(".") + 1]
    return ""


def docstrings() -> Iterator[tuple[str, str]]:
    """Dotted names of public modules, classes and functions of the standard library, with their docstrings."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [*sorted(library.glob("*.py")), *sorted(library.glob("*/__init__.py"))]
    count = 0
    for file in files:
        module = file.parent.name if file.stem == "__init__" else file.stem
        if module.startswith("_") or file.parent.name in _LEFT_OUT:
            continue
        for name, text in _docstrings_of(module, file):
            count += 1
            if count > MAX_DOCSTRINGS:
                return
            yield name, text


def _docstrings_of(module: str, file: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(file.read_text("utf-8", "replace"))
    except (SyntaxError, ValueError):
        return
    members = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    named: list[tuple[str, ast.Module | ast.FunctionDef | ast.ClassDef]] = [(module, tree)]
    named += [(f"{module}.{node.name}", node) for node in members if not node.name.startswith("_")]
    for name, node in named:
        text = ast.get_docstring(node) or ""
        if len(text) in DOCSTRING_CHARS and text.isascii():
            yield name, text
