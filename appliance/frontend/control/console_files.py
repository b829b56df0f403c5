"""The files of the web console: read once, served with validators, the same in a checkout and in the executable."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "console"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"


@dataclass(frozen=True)
class ConsoleFile:
    """One file, ready to be sent. `etag` is quoted, as in the header."""

    body: bytes
    content_type: str
    etag: str


def read_console_files(folder: Path = FOLDER) -> dict[str, ConsoleFile]:
    """All files of the console by name. Files of other types, such as its design note, are none of it."""
    found = sorted(path for path in folder.iterdir() if path.suffix in TYPES)
    return {path.name: make_file(path.read_bytes(), TYPES[path.suffix]) for path in found}


def make_file(body: bytes, content_type: str) -> ConsoleFile:
    """A file with the validator that its content gives."""
    return ConsoleFile(body, content_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
