"""Chooses a reasoning parser for a model whose user named none: by its chat template, then by its name."""

import re

from appliance.preprocess.reasoning.families import family

_BY_TEMPLATE = (
    ("<|channel|>analysis", "gpt_oss"),
    ("<|channel>thought", "gemma4"),
    ("◁think▷", "kimi"),
    ("[THINK]", "mistral"),
    ("Here is my thought process:", "granite"),
    ("Here's my thought process:", "granite"),
)
"""Marks that only one family has."""

_BY_NAME = (
    (r"gpt[-_]?oss", "gpt_oss"),
    (r"deepseek[-_]?r1", "deepseek_r1"),
    (r"deepseek[-_]?v4", "deepseek_v4"),
    (r"gemma[-_]?4", "gemma4"),
    (r"glm[-_]?(4\.[5-9]|5)", "glm45"),
    (r"kimi[-_]?k2[._]?5", "kimi_k25"),
    (r"kimi[-_]?vl", "kimi"),
    (r"magistral", "mistral"),
    (r"nemotron[-_]?(3|v3)", "nemotron3"),
    (r"nemotron[-_]?nano", "nemotron_nano"),
    (r"nemotron", "nemotron_deci"),
    (r"qwen3|qwq", "qwen3"),
    (r"step[-_]?3", "step3"),
)
_THINK = re.compile(r"</?think>")


def choose_reasoning_parser(template_source: str | None, model_name: str) -> str | None:
    """The parser that fits a model best; None when nothing says that it reasons.

    A parser that begins inside of reasoning would hide all output of a model that does not reason, so it is chosen
    only for a template that knows its marks, or when there is no template to ask.
    """
    template = template_source or ""
    for mark, name in _BY_TEMPLATE:
        if mark in template:
            return name
    thinks = _THINK.search(template) is not None
    for pattern, name in _BY_NAME:
        if re.search(pattern, model_name, re.IGNORECASE) and (thinks or not template or not _is_forced(name)):
            return name
    return "basic" if thinks else None


def _is_forced(name: str) -> bool:
    marks = family(name).marks
    return marks is not None and marks.forced
