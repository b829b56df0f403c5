"""The body of `POST /v1/embeddings` as types."""

from typing import Literal

import msgspec

from appliance.core.identity import ModelName
from appliance.frontend.protocols.openai.nvext import Nvext, TokenId


class EmbeddingBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An embedding request as the client wrote it. Which input arrays are allowed is checked in `validate`."""

    model: ModelName
    input: str | list[str | TokenId | list[TokenId]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    nvext: Nvext | None = None
