"""Error bodies in both shapes."""

import json

from appliance.core.errors import InvalidRequest, NotFound, Overloaded, Unauthorized
from appliance.web.errors import find_appliance_error, render_error


def test_openai_shape() -> None:
    status, body, headers = render_error(InvalidRequest("bad n", param="n"), "/v1/chat/completions")
    assert status == 400
    assert json.loads(body) == {
        "error": {"message": "bad n", "type": "invalid_request_error", "param": "n", "code": "invalid_request"}
    }
    assert headers == []


def test_anthropic_shape_and_headers() -> None:
    status, body, headers = render_error(Overloaded("busy", retry_after_s=0.2), "/v1/messages/count_tokens")
    assert status == 503
    assert json.loads(body) == {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    assert headers == [("retry-after", "1")]
    assert json.loads(render_error(NotFound("x"), "/v1/messagesx")[1])["error"]["type"] == "not_found_error"
    assert ("www-authenticate", "Bearer") in render_error(Unauthorized("k"), "/")[2]


def test_errors_are_found_inside_groups() -> None:
    inner = NotFound("x")
    group = ExceptionGroup("a", [ValueError(), ExceptionGroup("b", [inner])])
    assert find_appliance_error(group) is inner
    assert find_appliance_error(ValueError()) is None
