"""Tables on a terminal of a given width, and in a pipe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LONG = "the model needs 41.2 GiB but GPU 0 has 23.9 GiB: 38.0 for weights and 3.2 for the cache"
CODE = f"""
from appliance.cli.output import print_table
rows = [("qwen3-32b-instruct-q4", "ready", None), ("b", "failed", {LONG!r})]
print_table(("NAME", "STATE", "REASON"), rows, detail=DETAIL)
"""


def on_terminal(columns: int, *, detail: bool) -> list[str]:
    """Lines that the table has on a terminal, colours left out."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TERM": "dumb"}
    code = CODE.replace("DETAIL", str(detail))
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=environ, timeout=30, check=True)
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    return re.sub(r"\x1b\[\d*m", "", text.decode()).splitlines()


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("detail", [True, False])
def test_no_line_is_wider_than_the_terminal(columns: int, detail: bool) -> None:
    lines = on_terminal(columns, detail=detail)
    assert max(map(len, lines)) <= columns
    assert "".join(LONG.split()) in "".join("".join(lines).split()) or not detail


def test_a_narrow_terminal_has_sentences_below_their_row() -> None:
    lines = on_terminal(80, detail=True)
    assert lines[0].split() == ["NAME", "STATE"]
    assert lines[2].split() == ["b", "failed"]
    assert " ".join(" ".join(lines[3:]).split()) == LONG


def test_a_wide_terminal_has_them_beside() -> None:
    lines = on_terminal(140, detail=True)
    assert len(lines) == 3
    assert lines[2].endswith(LONG)


def test_a_pipe_has_one_line_per_row() -> None:
    code = CODE.replace("DETAIL", "True")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "qwen3-32b-instruct-q4", "b"]
    assert done.stdout.splitlines()[2].endswith(LONG)


def test_markup_in_a_cell_is_only_text() -> None:
    code = "from appliance.cli.output import print_table; print_table(('A', 'B'), [('[red]x[/red]', '[1]')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[1].split() == ["[red]x[/red]", "[1]"]
