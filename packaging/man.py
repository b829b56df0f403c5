"""The man page, made from the command line itself: `python packaging/man.py > dynamo-appliance.1`."""

import sys
from collections.abc import Iterator

import click

from appliance import __version__
from appliance.cli.catalogue import SECTIONS, VERBS
from appliance.cli.program import NAME, program
from appliance.core.setting_docs import setting_docs
from appliance.core.setting_keys import KEYS

OWN_SETTINGS = "$XDG_CONFIG_HOME/dynamo-appliance/appliance.toml"
OWN_STATE = "$XDG_STATE_HOME/dynamo-appliance"
FILES = (
    ("/etc/dynamo-appliance/appliance.toml", "Settings of the packaged service."),
    ("/etc/default/dynamo-appliance", "Environment of the packaged service, and the flags that serve gets there."),
    ("/var/lib/dynamo-appliance", "State of the packaged service: database, models, checkpoints, engines."),
    ("/var/log/dynamo-appliance", "Output of its processes, one file per component, rotated by size."),
    ("/run/dynamo-appliance/admin.sock", "What the verbs talk to; members of the group dynamo-appliance may."),
    (OWN_SETTINGS, "Settings of an appliance that a user starts."),
    (OWN_STATE, "Its state and logs; --state-dir chooses another place."),
)
SIGNALS = (
    (
        "SIGTERM, SIGINT",
        "Stop in order: finish running requests up to drain.request_s, then end. "
        "A second one more than half a second later: end now.",
    ),
    (
        "SIGHUP",
        "Read settings, API key file and TLS certificate anew. "
        "The log and the verb why (why appliance) say what changed and what needs a restart.",
    ),
)
EXITS = (
    ("0", "success"),
    ("1", "failure, with one line on stderr"),
    ("2", "wrong usage"),
    ("3", "no appliance is running"),
    ("130", "interrupted"),
)
ABOUT = (
    "One executable that serves language models: an OpenAI-compatible server with supervised workers, a router, "
    "and a declarative control plane."
)


def man_page() -> str:
    """The whole page in roff."""
    lines = [
        f'.TH DYNAMO\\-APPLIANCE 1 "" "dynamo\\-appliance {__version__}" "User Commands"',
        ".SH NAME",
        f"{_text(NAME)} \\- turn a machine into an LLM serving platform",
        ".SH SYNOPSIS",
        f".B {_text(NAME)}\n.I VERB\n.RI [ FLAGS ]",
        ".SH DESCRIPTION",
        f'{_text(ABOUT)}\nBegin with\n.BR "dynamo\\-appliance serve" .',
    ]
    for section in SECTIONS:
        lines.append(f'.SH "VERBS: {_text(section.upper())}"')
        for name, entry in VERBS.items():
            if entry.section == section:
                lines += _verb(name)
    lines += [".SH SETTINGS", "A later source wins: default, settings file, environment, flag."]
    for key in KEYS.values():
        names = ", ".join(reversed(key.environment))
        lines += [
            f".TP\n.B {_text(key.key)}",
            f"{_text(setting_docs().get(key.key, ''))}\nEnvironment: {_text(names)}.",
        ]
    for title, entries in (("FILES", FILES), ("SIGNALS", SIGNALS), ("EXIT STATUS", EXITS)):
        lines.append(f'.SH "{title}"')
        lines += [f".TP\n.B {_text(name)}\n{_text(meaning)}" for name, meaning in entries]
    return "\n".join(lines) + "\n"


def _verb(name: str) -> Iterator[str]:
    """A verb and its sub-verbs with their flags."""
    context = click.Context(program, info_name=NAME)
    command = program.get_command(context, name)
    if command is None:
        return
    yield from _command(command, click.Context(command, parent=context, info_name=name))
    if isinstance(command, click.Group):
        inner = click.Context(command, parent=context, info_name=name)
        for sub_name, sub in command.commands.items():
            yield from _command(sub, click.Context(sub, parent=inner, info_name=sub_name))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    words = context.command_path.removeprefix(NAME).strip()
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {_text(words)}"
    yield f".B {_text(words)}\n{_text(usage)}\n.PP"
    yield _text(" ".join((command.help or "").split()))
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if (
            record is not None
            and isinstance(parameter, click.Option)
            and parameter.name not in ("help", "debug", "state_dir")
        ):
            yield f".TP\n.B {_text(record[0])}\n{_text(' '.join(record[1].split())) or '.'}"


def _text(text: str) -> str:
    """Plain text for roff: nothing in it is a request or an escape; hyphens can be searched and copied."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return "\\&" + plain if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    sys.stdout.write(man_page())
