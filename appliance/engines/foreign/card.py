"""The card of a model that a foreign server runs, by what it says of itself and what was asked of it."""

import msgspec

from appliance.core.errors import EngineFailed
from appliance.core.identity import ModelName
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.requests import ModelCard
from appliance.engines.cards import make_card
from appliance.engines.foreign.options import ForeignOptions
from appliance.engines.remote.events import REASONING_PARSER, TOOL_CALL_PARSER


def served_card(
    engine: str,
    facts: ModelFacts,
    options: EngineOptions,
    given: ForeignOptions,
    *,
    context_length: int,
    block_size: int,
    total_kv_blocks: int,
    ranks: int,
    kv_events: bool,
) -> ModelCard:
    """The card for tokens; the figures are the server's, zero where it does not say.

    Raises `EngineFailed` when nobody says how long the context is.
    """
    context = options.context_length or context_length or facts.context_length
    if not context:
        raise EngineFailed(f"{engine} does not say how long its context is; give --context-length")
    card = make_card(
        engine,
        facts,
        options,
        task=options.task or facts.task,
        context_length=min(context, context_length or context),
        max_num_seqs=given.max_num_seqs,
        total_kv_blocks=total_kv_blocks,
        guided=True,
        kv_events=kv_events,
    )
    return msgspec.structs.replace(card, block_size=block_size or card.block_size, role=given.role, ranks=ranks)


def text_card(card: ModelCard, options: EngineOptions) -> ModelCard:
    """The same for a model whose tokenizer does not lie here: text goes in and comes out, and no prefix is hashed."""
    return msgspec.structs.replace(
        card,
        name=ModelName(options.served_name),
        io="text",
        files={},
        kv_events=False,
        tool_call_parser=options.tool_call_parser or TOOL_CALL_PARSER,
        reasoning_parser=options.reasoning_parser or REASONING_PARSER,
    )
