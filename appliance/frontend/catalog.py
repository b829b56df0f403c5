"""The models that this front end knows: what clients may ask for, and what is needed to turn text into tokens."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
import trio

from appliance.core.errors import InternalError, ModelFileBad, ModelNotFound, ModelNotReady
from appliance.core.identity import Digest, ModelName
from appliance.core.records import ModelRecord
from appliance.core.requests import EngineRequest, ModelCard
from appliance.frontend.streams.seams import TextTools
from appliance.preprocess.measure import Measure
from appliance.preprocess.prepare import AskWorker, PromptBuilder
from appliance.preprocess.template import ChatTemplate
from appliance.preprocess.tokenizer import TextTokenizer

FAILED_RETRY_S = 30  # a failed model stays so until someone changes its graph
TEXT_FACTS = (
    "io",
    "task",
    "files",
    "bos_token",
    "eos_token",
    "add_bos",
    "eos_token_ids",
    "vocab_size",
    "embedding_size",
)
"""Members of a card in which workers of one model agree; others differ with the memory of their devices."""


class ServedModel:
    """A model of which at least one worker has shown its card."""

    def __init__(
        self, card: ModelCard, files: dict[str, bytes], ask_worker: AskWorker, measure: Measure | None = None
    ) -> None:
        """`ask_worker` tokenizes for a model that brings no tokenizer. Raises `ModelFileBad` for unusable files."""
        self.card = card
        own = _read_tokenizer(files.get("tokenizer.json"))
        decoder = own or _read_tokenizer(files.get("detokenizer.json"))
        if decoder is None and card.task == "generate" and card.io == "tokens":
            raise ModelFileBad(f"model {card.name} came without a tokenizer")
        self._decoder = decoder
        self.plain_text: TextTools | None = None
        """For chats that want no more than the text; None: the model generates none, or its workers speak text."""
        if decoder is not None and card.io == "tokens":
            self.plain_text = TextTools(detokeniser=decoder.plain_detokenisers(), token_bytes=decoder.token_bytes)
        self.prompts = PromptBuilder(
            card,
            own,
            self._template(files.get("chat_template.jinja")),
            self._template(files.get("tool_chat_template.jinja")),
            ask_worker,
            measure,
        )

    @property
    def has_decoder(self) -> bool:
        """The texts of token ids are known here; of models that only embed they may not be."""
        return self._decoder is not None

    @property
    def decoder(self) -> TextTokenizer:
        """Turns ids into text. Only of models that generate."""
        if self._decoder is None:
            raise InternalError(f"model {self.card.name} generates no text")
        return self._decoder

    def _template(self, source: bytes | None) -> ChatTemplate | None:
        if source is None:
            return None
        card = self.card
        return ChatTemplate(source.decode(errors="replace"), bos_token=card.bos_token, eos_token=card.eos_token)


def _read_tokenizer(data: bytes | None) -> TextTokenizer | None:
    return None if data is None else TextTokenizer.from_json(data)


class Offer(msgspec.Struct, frozen=True):
    """A name that clients may ask for, and what every request for it needs."""

    record: ModelRecord
    model: ModelName
    """Whose workers compute it: of an adapter its base model, else itself."""
    served: ServedModel | None
    """None while no worker was ever ready."""


class Catalog:
    """Names that exist, whether or not a worker is ready, and the served models behind them."""

    def __init__(self, measure: Measure | None = None) -> None:
        """`measure` takes the time of templates and tokenizers."""
        self._measure = measure
        self._records: dict[ModelName, ModelRecord] = {}
        self._served: dict[ModelName, ServedModel] = {}
        self._offers: dict[str, Offer] = {}
        """Of each record; made anew when records or served models change."""
        self._files: dict[Digest, bytes] = {}

    def set_records(self, records: Iterable[ModelRecord]) -> None:
        """Replace the list of names; what is known of a vanished model is forgotten."""
        self._records = {record.name: record for record in records}
        for name in self._served.keys() - self._records.keys():
            del self._served[name]
        wanted = {ref.digest for served in self._served.values() for ref in served.card.files.values()}
        for digest in self._files.keys() - wanted:
            del self._files[digest]
        self._make_offers()

    def records(self) -> list[ModelRecord]:
        return list(self._records.values())

    def record(self, name: str) -> ModelRecord:
        """The record of a name. Raises `ModelNotFound`, naming the models that exist."""
        return self.offer(name).record

    def offer(self, name: str) -> Offer:
        """What there is by a name. Raises `ModelNotFound`, naming the models that exist."""
        found = self._offers.get(name)
        if found is None:
            known = ", ".join(self._offers) or "none"
            raise ModelNotFound(f"the model {name!r} does not exist; models here: {known}", param="model")
        return found

    def base(self, name: ModelName) -> ModelName:
        """The model whose workers compute a name: of an adapter its base model, else itself."""
        record = self._records.get(name)
        return name if record is None or record.base is None else record.base

    def for_workers(self, name: ModelName, requests: list[EngineRequest]) -> list[EngineRequest]:
        """The requests as workers take them: those for an adapter go to its base model and name the adapter."""
        base = self.base(name)
        if base == name:
            return requests
        return [msgspec.structs.replace(one, model=base, lora=name) for one in requests]

    def check_hope(self, name: str) -> None:
        """Raise `ModelNotFound` or `ModelNotReady` for a model that will not become ready by waiting."""
        record = self.record(name)
        if record.phase == "failed":
            reason = record.reason or "its workers failed"
            raise ModelNotReady(f"the model {name!r} cannot be served: {reason}", retry_after_s=FAILED_RETRY_S)

    @contextmanager
    def reasons(self, name: ModelName) -> Iterator[None]:
        """Add to a `ModelNotReady` of the block what keeps the model, such as how far its download is."""
        try:
            yield
        except ModelNotReady as error:
            record = self._records.get(name)
            if record is None or record.phase == "ready" or not record.reason:
                raise
            left_s = 0.0 if record.ready_at is None else record.ready_at - time.time()
            about = f", about {left_s:.0f} s left" if left_s >= 1 else ""
            retry_s = max(1, math.ceil(left_s)) if about else error.retry_after_s
            raise ModelNotReady(f"{error.message} ({record.reason}{about})", retry_after_s=retry_s) from None

    def served(self, name: ModelName) -> ServedModel | None:
        """What the first card of the model taught us; None while no worker was ever ready."""
        return self._served.get(self.base(name))

    def missing_files(self, card: ModelCard) -> list[Digest]:
        """Files of a card that were not fetched yet."""
        return [ref.digest for ref in card.files.values() if ref.digest not in self._files]

    def clashes(self, card: ModelCard) -> bool:
        """Whether the known model of that name is another one: prompts made for it are no prompts for this card."""
        known = self._served.get(card.name)
        return known is not None and any(getattr(known.card, fact) != getattr(card, fact) for fact in TEXT_FACTS)

    async def learn(self, card: ModelCard, fetched: dict[Digest, bytes], ask_worker: AskWorker) -> None:
        """Take in a worker's card; a card like the known one changes nothing, nor does that of a prefill worker of a
        known model. Raises `ModelFileBad`.

        Large tokenizers take a second to build, so that happens in a thread. Cancelling learns nothing.
        """
        self._files.update(fetched)
        known = self._served.get(card.name)
        if known is None or (known.card != card and card.role != "prefill"):
            files = {name: self._files[ref.digest] for name, ref in card.files.items()}
            self._served[card.name] = await trio.to_thread.run_sync(ServedModel, card, files, ask_worker, self._measure)
            self._make_offers()

    def _make_offers(self) -> None:
        self._offers = {
            name: Offer(record, model, self._served.get(model))
            for name, record in self._records.items()
            for model in (record.base or name,)
        }
