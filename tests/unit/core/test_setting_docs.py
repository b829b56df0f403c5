"""Texts of settings as they are read from the source."""

from appliance.core.setting_docs import setting_docs


def test_a_text_over_several_lines_is_one_line() -> None:
    assert all("\n" not in text and text.endswith(".") for text in setting_docs().values())


def test_a_text_belongs_to_the_field_above_it() -> None:
    assert setting_docs()["http.port"] == "TCP port; 0 takes any free one."
