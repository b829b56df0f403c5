"""Gauges that say what the workers of a model can do, from their cards."""

from appliance.core.requests import ModelCard
from appliance.telemetry.cells import Metrics


def add_model_gauges(metrics: Metrics, card: ModelCard, migration_limit: int) -> None:
    """Set them for the model of a card."""
    gauges = {
        "total_kv_blocks": card.total_kv_blocks,
        "max_num_seqs": card.max_num_seqs,
        "max_num_batched_tokens": card.max_num_batched_tokens,
        "context_length": card.context_length,
        "kv_cache_block_size": card.block_size,
        "migration_limit": migration_limit,
    }
    for name, value in gauges.items():
        metrics.cell(f"dynamo_frontend_model_{name}", card.name).set(value)
