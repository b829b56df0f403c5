"""Constraints on the output as a GBNF grammar, the one form that llama.cpp refuses loudly when it is wrong.

Its other form (llguidance) drops a constraint that it cannot compile without a word, so it is never used.
"""

from appliance.core.errors import InvalidRequest
from appliance.core.requests import EngineRequest
from appliance.engines.llamacpp.gbnf import literal
from appliance.engines.llamacpp.json_grammar import json_schema_grammar
from appliance.engines.llamacpp.regex_grammar import regex_grammar


def grammar_of(request: EngineRequest) -> str | None:
    """GBNF text, None when the request is free. Raises `InvalidRequest` for what cannot be enforced."""
    guided = request.guided
    if guided is None:
        return None
    if request.stop.min_tokens:
        raise InvalidRequest("min_tokens cannot be combined with guided output", param="min_tokens")
    if guided.json_schema is not None:
        return json_schema_grammar(guided.json_schema)
    if guided.regex is not None:
        return regex_grammar(guided.regex)
    if guided.choice is not None:
        return _choice_grammar(guided.choice)
    if guided.grammar is not None:
        return _own_grammar(guided.grammar)
    return None


def _choice_grammar(choices: tuple[str, ...]) -> str:
    if not choices or not all(choices):
        raise InvalidRequest("guided_choice needs at least one text, and no empty one", param="guided_choice")
    return "root ::= " + " | ".join(literal(choice) for choice in choices)


def _own_grammar(grammar: str) -> str:
    if grammar.lstrip().startswith("%"):
        raise InvalidRequest("guided_grammar takes GBNF only", param="guided_grammar")
    if "root" not in grammar:
        raise InvalidRequest("guided_grammar has no rule named root", param="guided_grammar")
    return grammar
