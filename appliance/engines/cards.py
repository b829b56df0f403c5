"""The model card of an engine instance, made from model facts, and the files that it names."""

from appliance.core.errors import NotFound
from appliance.core.identity import Digest, ModelName
from appliance.core.model_facts import EngineOptions, ModelFacts
from appliance.core.requests import ModelCard, Task

BLOCK_TOKENS = 16


def make_card(
    engine: str,
    facts: ModelFacts,
    options: EngineOptions,
    *,
    task: Task,
    context_length: int,
    max_num_seqs: int,
    total_kv_blocks: int,
    guided: bool = False,
    kv_events: bool = False,
) -> ModelCard:
    """The card of a token-speaking engine; what is not given comes from the model's facts."""
    return ModelCard(
        name=ModelName(options.served_name),
        context_length=context_length,
        block_size=BLOCK_TOKENS,
        task=task,
        engine=engine,
        files=facts.refs,
        bos_token=facts.bos_token,
        eos_token=facts.eos_token,
        add_bos=facts.add_bos,
        eos_token_ids=facts.eos_token_ids,
        vocab_size=facts.vocab_size,
        embedding_size=facts.embedding_size if task == "embed" else 0,
        max_num_seqs=max_num_seqs,
        total_kv_blocks=total_kv_blocks,
        default_sampling=facts.default_sampling,
        guided=guided,
        kv_events=kv_events,
        tool_call_parser=options.tool_call_parser,
        reasoning_parser=options.reasoning_parser,
    )


class CardFiles:
    """Mixin for engines: the `FileSource` ability over the files of the model's facts."""

    def __init__(self, facts: ModelFacts) -> None:
        self._file_by_digest = {
            ref.digest: facts.files[name] for name, ref in facts.refs.items() if name in facts.files
        }

    def read_file(self, digest: Digest) -> bytes:
        """The bytes behind a digest of the card. Raises `NotFound`."""
        try:
            return self._file_by_digest[digest]
        except KeyError:
            raise NotFound(f"this model has no file with digest {digest[:12]}") from None
