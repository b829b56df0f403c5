"""Which requests came under which `x-request-id`: bounded, for questions about requests that are over."""

from collections import OrderedDict

from appliance.core.identity import RequestId

KEPT = 1000
PREFIXES = ("chatcmpl-", "cmpl-", "resp_", "msg_")
HEX_DIGITS = 32


class ClientIds:
    """The last ids that clients gave their requests; several requests may have the same one."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, list[RequestId]] = OrderedDict()

    def note(self, client_id: bytes, request: RequestId) -> None:
        """A request came with an id of its client."""
        name = client_id.decode("latin-1")
        self._known.setdefault(name, []).append(request)
        self._known.move_to_end(name)
        if len(self._known[name]) > KEPT:
            del self._known[name][0]
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def find(self, name: str) -> list[RequestId]:
        """Our ids for what a user calls a request: by its client's id, or by ours as any protocol shows it."""
        return [plain_id(name), *self._known.get(name, ())]


def plain_id(shown: str) -> RequestId:
    """The id of a request from the one that an answer shows: `chatcmpl-UUID`, `msg_` and the UUID's digits."""
    prefix = next((one for one in PREFIXES if shown.startswith(one)), "")
    bare = shown[len(prefix) :]
    if len(bare) == HEX_DIGITS and "-" not in bare:
        bare = "-".join((bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]))
    return RequestId(bare)
