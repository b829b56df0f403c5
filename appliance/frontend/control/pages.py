"""The landing page and the docs page: one HTML text each, nothing loaded from elsewhere."""

from html import escape
from typing import Any

from appliance.core.settings import PathSettings

DEFAULT = PathSettings()

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
code,pre{font:14px/1.5 ui-monospace,monospace;background:#f2f2f2;border-radius:4px}
code{padding:.1em .3em}pre{padding:1rem;overflow:auto}
table{border-collapse:collapse;width:100%}td{padding:.3rem .5rem;border-top:1px solid #ddd;vertical-align:top}
a{color:#05c}.dim{color:#666}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}code,pre{background:#262626}td{border-color:#333}
a{color:#7bf}.dim{color:#999}}
"""

_LANDING_SCRIPT = """
const list=document.getElementById("models"),call=document.getElementById("call"),box=document.getElementById("key");
function example(name,key){
  const body=JSON.stringify({model:name,messages:[{role:"user",content:"Hello"}],stream:true});
  const auth=key?` \\\\\\n  -H 'authorization: Bearer KEY'`:"";
  const url=`${location.origin}/v1/chat/completions`,type="-H 'content-type: application/json'";
  call.textContent=`curl -N ${url} \\\\\\n  ${type}${auth} \\\\\\n  -d '${body}'`;
}
async function show(){
  const key=box.value,headers=key?{authorization:"Bearer "+key}:{};
  const answer=await fetch("/v1/models",{headers});
  document.getElementById("ask").hidden=answer.status!==401;
  if(!answer.ok){list.textContent=answer.status===401?"An API key is needed.":"The model list is not available.";return}
  const models=(await answer.json()).data;
  list.replaceChildren(...models.map(m=>{const row=document.createElement("li");row.textContent=m.id;return row}));
  if(!models.length)list.textContent="No model is served yet.";
  example(models.length?models[0].id:"MODEL",key);
}
box.addEventListener("change",show);example("MODEL","");show();
"""


def landing_page(paths: PathSettings) -> str:
    """Models that are served, and a call to copy. `paths` hold no character that HTML or a script would mind."""
    script = _LANDING_SCRIPT.replace(DEFAULT.chat, paths.chat).replace(f'"{DEFAULT.models}"', f'"{paths.models}"')
    return _page(
        "Dynamo appliance",
        '<h2>Models</h2><p id="ask" hidden>'
        '<label>API key <input id="key" type="password" autocomplete="off"></label></p>'
        '<ul id="models"><li class="dim">Asking...</li></ul>'
        '<h2>Call</h2><pre id="call"></pre>'
        f'<p><a href="/docs">API</a>, <a href="{paths.health}">health</a>, <a href="{paths.metrics}">metrics</a></p>',
        script,
    )


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


def _page(title: str, body: str, script: str = "") -> str:
    tail = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}{tail}</html>"
    )
