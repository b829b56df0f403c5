"""The `--help` text of every verb and sub-verb, as a person sees it on 80 columns."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from appliance.cli.catalogue import VERBS
from appliance.cli.program import NAME, program
from appliance.cli.verb import Call

FOLDER = Path(__file__).parent / "help"


def calls() -> Iterator[tuple[str, ...]]:
    """The program itself, each verb, each sub-verb."""
    yield ()
    context = click.Context(program)
    for verb in VERBS:
        yield (verb,)
        command = program.get_command(context, verb)
        if isinstance(command, click.Group):
            yield from ((verb, sub) for sub in command.commands)


CALLS = {"_".join(call) or NAME: call for call in calls()}


@pytest.mark.parametrize("name", CALLS)
def test_help(name: str, regenerate: bool) -> None:
    arguments = [*CALLS[name], "--help"]
    done = CliRunner().invoke(program, arguments, prog_name=NAME, obj=Call(), terminal_width=80)
    assert done.exit_code == 0
    path = FOLDER / f"{name}.txt"
    if regenerate:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(done.output)
    assert done.output == path.read_text()


def test_no_text_is_left_of_a_verb_that_has_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CALLS)
