"""Which parser a template and a name call for."""

import pytest

from appliance.preprocess.reasoning import REASONING_PARSERS, choose_reasoning_parser
from appliance.preprocess.reasoning.choice import _BY_NAME, _BY_TEMPLATE

THINKING = "{% if '</think>' in content %}..."


@pytest.mark.parametrize(
    ("template", "model", "expected"),
    [
        ("{{ messages }}", "Llama-3.2-1B-Instruct", None),
        (None, "Llama-3.2-1B-Instruct", None),
        (THINKING, "my-own-finetune", "basic"),
        (THINKING, "Qwen3-8B-Q4_K_M", "qwen3"),
        ("{{ messages }}", "Qwen3-4B-Instruct-2507", "qwen3"),
        (THINKING, "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek_r1"),
        ("{{ messages }}", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", None),
        (None, "deepseek-ai/DeepSeek-R1", "deepseek_r1"),
        (THINKING, "deepseek-ai/DeepSeek-V3.1", "basic"),
        ("... '<|channel|>analysis<|message|>' ...", "anything", "gpt_oss"),
        (None, "openai/gpt-oss-20b", "gpt_oss"),
        ("... <|channel>thought\n ...", "anything", "gemma4"),
        ("{{ messages }}", "gemma-3-4b", None),
        ("... [THINK] ...", "Magistral-Small", "mistral"),
        (THINKING, "zai-org/GLM-4.5-Air", "glm45"),
        (THINKING, "nvidia/NVIDIA-Nemotron-Nano-9B-v2", "nemotron_nano"),
        (THINKING, "nvidia/NVIDIA-Nemotron-3-Nano-30B", "nemotron3"),
        (THINKING, "moonshotai/Kimi-K2.5", "kimi_k25"),
    ],
)
def test_choice(template: str | None, model: str, expected: str | None) -> None:
    assert choose_reasoning_parser(template, model) == expected


def test_only_existing_parsers_are_chosen() -> None:
    assert {name for _, name in (*_BY_TEMPLATE, *_BY_NAME)} <= set(REASONING_PARSERS)
