// One streamed chat completion: sends it, and gives its pieces as they come.

import { PATHS, call, failure } from "./api.js";

/** The `data` of server-sent events, as they arrive. */
async function* eventData(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const event of events) {
        const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Streams an answer: calls `onPart(part)` with `{text}`, `{reasoning}`, `{tools}`, `{usage}`, `{finish}` or `{id}`.
 * Throws `ApiError` for what the appliance refuses, also in the middle of the stream. */
export async function streamChat(request, signal, onPart) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const answer = await call(PATHS.chat, { method: "POST", headers: { "content-type": "application/json" }, body, signal });
  if (!answer.ok) throw await failure(answer);
  for await (const data of eventData(answer.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message ?? "the answer broke off");
    if (chunk.id) onPart({ id: chunk.id });
    if (chunk.usage) onPart({ usage: chunk.usage });
    const choice = chunk.choices?.[0];
    const delta = choice?.delta ?? {};
    if (delta.reasoning_content) onPart({ reasoning: delta.reasoning_content });
    if (delta.content) onPart({ text: delta.content });
    if (delta.tool_calls) onPart({ tools: delta.tool_calls });
    if (choice?.finish_reason) onPart({ finish: choice.finish_reason });
  }
}
