"""What a request template fills in, what it leaves, and what is wrong with its file."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import InvalidRequest, UsageError
from appliance.frontend.protocols.request_template import RequestTemplate, read_request_template

TEMPLATE = RequestTemplate(model="m", temperature=0.5, max_completion_tokens=7)


def chat(**members: Any) -> Any:
    return json.loads(TEMPLATE.fill_chat(json.dumps(members).encode()))


def test_absent_members_are_filled() -> None:
    filled = {"model": "m", "temperature": 0.5, "max_completion_tokens": 7}
    assert chat() == filled
    assert chat(model=None, temperature=None) == filled
    assert json.loads(TEMPLATE.fill_responses(b"{}")) == {"model": "m", "temperature": 0.5, "max_output_tokens": 7}


def test_present_members_stay() -> None:
    assert chat(model="x", temperature=0, max_tokens=1) == {"model": "x", "temperature": 0, "max_tokens": 1}
    assert chat(model="", max_completion_tokens=1)["model"] == ""
    whole = b'{"model": "x", "temperature": 0.30, "max_tokens": 1, "big": 1e400}'
    assert TEMPLATE.fill_chat(whole) is whole
    assert b'"big":1e400' in TEMPLATE.fill_chat(b'{"big":1e400}')


def test_a_body_that_is_no_object_is_left_to_its_reader() -> None:
    assert TEMPLATE.fill_chat(b"[1]") == b"[1]"
    for body in (b"", b"{", b"\xff"):
        with pytest.raises(InvalidRequest):
            TEMPLATE.fill_chat(body)


def test_the_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"model": "m", "temperature": 0.5, "max_completion_tokens": 7}')
    assert read_request_template(str(file)) == TEMPLATE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[]", "object"),
        ('{"model": "m", "temperature": 0.5}', "max_completion_tokens"),
        ('{"model": 3, "temperature": 0.5, "max_completion_tokens": 7}', "model"),
        ('{"model": "", "temperature": 0.5, "max_completion_tokens": 7}', "model"),
        ('{"model": "m", "temperature": 9, "max_completion_tokens": 7}', "temperature"),
        ('{"model": "m", "temperature": 0.5, "max_completion_tokens": 0}', "max_completion_tokens"),
        ('{"model": "m", "temperature": 0.5, "max_completion_tokens": 7, "top_p": 1}', "top_p"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_request_template(str(file))
    assert str(file) in caught.value.message


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"/no/such/file: No such file"):
        read_request_template("/no/such/file")
