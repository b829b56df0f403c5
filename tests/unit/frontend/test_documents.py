"""Embedding documents, model lists and annotation events."""

import base64
import json
import struct

from openai.types import CreateEmbeddingResponse, Model

from appliance.core.identity import ModelName
from appliance.core.records import ModelRecord
from appliance.frontend.protocols.openai.documents import embedding_document
from appliance.frontend.protocols.openai.model_list import (
    anthropic_model,
    anthropic_model_list,
    openai_model,
    openai_model_list,
)
from appliance.frontend.protocols.openai.sse import preamble
from tests.helpers.answers import chat_request

TINY = ModelRecord(name=ModelName("org/tiny"), phase="ready", created=1_700_000_000, context_length=2048)
COLD = ModelRecord(name=ModelName("cold"), phase="cold", created=1_700_000_001)


def test_embedding_document_as_floats() -> None:
    body = embedding_document(ModelName("m"), [[0.5, -1.0], [0.0, 2.0]], 9)
    document = CreateEmbeddingResponse.model_validate_json(body, strict=True)
    assert [(e.index, e.embedding) for e in document.data] == [(0, [0.5, -1.0]), (1, [0.0, 2.0])]
    assert (document.usage.prompt_tokens, document.usage.total_tokens) == (9, 9)


def test_embedding_document_as_base64() -> None:
    document = json.loads(embedding_document(ModelName("m"), [[0.5, -1.0]], 9, base64_vectors=True))
    packed = base64.b64decode(document["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == (0.5, -1.0)


def test_openai_models() -> None:
    listed = openai_model_list([TINY, COLD])
    assert [Model.model_validate(entry, strict=True).id for entry in listed["data"]] == ["org/tiny", "cold"]
    assert openai_model(TINY)["context_window"] == 2048
    assert openai_model(TINY)["created"] == 1_700_000_000
    assert "context_window" not in openai_model(COLD)


def test_anthropic_models() -> None:
    assert anthropic_model_list([TINY, COLD]) == {
        "data": [
            {
                "id": "org/tiny",
                "display_name": "org/tiny",
                "type": "model",
                "created_at": "2023-11-14T22:13:20Z",
                "max_input_tokens": 2048,
            },
            anthropic_model(COLD),
        ],
        "has_more": False,
        "first_id": "org/tiny",
        "last_id": "cold",
    }
    assert anthropic_model_list([])["first_id"] is None


def test_preamble_holds_the_wanted_annotations_in_order() -> None:
    request = chat_request(nvext={"annotations": ["token_ids", "formatted_prompt", "llm_metrics", "request_id"]})
    assert preamble(request, 'a\n"b"', [1, 2]) == (
        b'event: request_id\n: "11111111-2222-4333-8444-555555555555"\n\n'
        b'event: formatted_prompt\n: "a\\n\\"b\\""\n\n'
        b'event: token_ids\n: "[1,2]"\n\n'
    )
    assert preamble(chat_request(), "p", [1]) == b""
