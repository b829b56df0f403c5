"""What the README says about verbs and settings is what the program has: nothing missing, nothing made up."""

import re
from pathlib import Path

import click
import pytest

from appliance.cli.catalogue import VERBS
from appliance.cli.config import plain_value
from appliance.cli.program import program
from appliance.cli.serve import SETTINGS
from appliance.core.setting_docs import setting_docs
from appliance.core.setting_keys import KEYS, SettingKey

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FLAGS = {key: flag for flag, key in SETTINGS.items()}


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(title: str) -> list[list[str]]:
    """Cells of the rows of a section's table, without its header."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def documented_verbs() -> set[str]:
    """`keys create NAME` counts as `keys` and `keys create`."""
    words = [call.split() for row in table("Verbs") for call in re.findall(r"`([^`]+)`", row[0])]
    pairs = {f"{call[0]} {call[1]}" for call in words if len(call) > 1 and call[1].isalpha() and call[1].islower()}
    return {call[0] for call in words} | pairs


def real_verbs() -> set[str]:
    context = click.Context(program)
    names = set(VERBS)
    for name in VERBS:
        command = program.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            names |= {f"{name} {sub}" for sub in command.commands}
    return names


def test_every_verb_is_documented_and_exists() -> None:
    assert documented_verbs() == real_verbs()


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_setting_is_documented(key: SettingKey) -> None:
    rows = {row[0]: row[1:] for row in table("Settings")}
    names = ", ".join(f"`{name}`" for name in reversed(key.environment))
    flag = f"`{FLAGS[key.key]}`" if key.key in FLAGS else ""
    assert rows[f"`{key.key}`"] == [plain_value(key.default), names, flag, setting_docs()[key.key]]


def test_no_setting_is_made_up() -> None:
    assert {row[0].strip("`") for row in table("Settings")} == set(KEYS)


def test_every_setting_says_what_it_means() -> None:
    assert {key for key in KEYS if not setting_docs().get(key)} == set()


def test_links_lead_somewhere() -> None:
    pages = (README, (ROOT / "CONTRIBUTING.md").read_text())
    targets = {target for page in pages for target in re.findall(r"\]\(([^)#:]+)\)", page)}
    assert {target for target in targets if not (ROOT / target).exists()} == set()
