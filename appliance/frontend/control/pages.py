"""The docs page: one HTML text, nothing loaded from elsewhere."""

from html import escape
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
code,pre{font:14px/1.5 ui-monospace,monospace;background:#f2f2f2;border-radius:4px}
code{padding:.1em .3em}pre{padding:1rem;overflow:auto}
table{border-collapse:collapse;width:100%}td{padding:.3rem .5rem;border-top:1px solid #ddd;vertical-align:top}
a{color:#05c}.dim{color:#666}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}code,pre{background:#262626}td{border-color:#333}
a{color:#7bf}.dim{color:#999}}
"""


def docs_page(description: dict[str, Any]) -> str:
    """The paths of an OpenAPI document as a table."""
    rows = "".join(
        f"<tr><td><code>{escape(method.upper())}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation['summary']).replace('`', '')}</td></tr>"
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    )
    return _page(
        "API",
        "<p>The OpenAI and Anthropic HTTP interfaces; any client of theirs works with this base URL. "
        'The machine-readable document is <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<table>{rows}</table>"
        "<p>With API keys on, send <code>Authorization: Bearer KEY</code> or <code>x-api-key: KEY</code>. "
        "Errors are JSON: <code>error.message</code>, <code>error.type</code>, <code>error.param</code>, "
        "<code>error.code</code>.</p>",
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
