"""Errors across a link."""

import pytest

from appliance.core import errors
from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest, Overloaded, WorkerLost
from appliance.transport.error_codes import code_and_message, error_from


@pytest.mark.parametrize("kind", [InvalidRequest, Overloaded, WorkerLost, errors.ModelFileBad, errors.InternalError])
def test_our_errors_come_back_as_they_were(kind: type[ApplianceError]) -> None:
    back = error_from(*code_and_message(kind("cannot do it")))
    assert (type(back), str(back)) == (kind, "cannot do it")


def test_codes_are_distinct_but_for_the_base_class() -> None:
    kinds = [entry for entry in vars(errors).values() if isinstance(entry, type) and issubclass(entry, ApplianceError)]
    codes = [kind.code for kind in kinds if kind is not ApplianceError]
    assert len(codes) == len(set(codes))


def test_other_faults_say_nothing_of_themselves() -> None:
    code, message = code_and_message(ValueError("/models/secret.gguf"))
    assert code == EngineFailed.code
    assert "secret" not in message


def test_unknown_code_and_wild_message_are_tamed() -> None:
    fault = error_from("from_the_future", "two\nlines " + "x" * 10_000)
    assert type(fault) is EngineFailed
    assert "\n" not in str(fault)
    assert len(str(fault)) <= 500
    assert str(error_from("overloaded", "")) != ""
