// The chat page: a conversation with one model, its parameters, and how fast it answers.

import { listModels } from "./api.js";
import { h, listen, patch } from "./dom.js";
import { duration, number, plural } from "./format.js";
import { markdown } from "./markdown.js";
import { streamChat } from "./stream.js";

export const TITLE = "Chat";

const STORE = "chat";
const RATED_S = 0.1; // tokens that came at once tell no rate
const FIELDS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.1, placeholder: "model's own" }],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.05, placeholder: "model's own" }],
  ["max_tokens", "Most tokens", { min: 1, step: 1, placeholder: "all that fit" }],
  ["seed", "Seed", { step: 1, placeholder: "random" }],
];

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(STORE));
    if (Array.isArray(found?.messages)) return found;
  } catch {
    // what cannot be read is as good as nothing
  }
  return { model: "", system: "", messages: [], parameters: {} };
}

export function enter(main, shared) {
  const page = new ChatPage(main, shared);
  return () => page.leave();
}

class ChatPage {
  constructor(main, shared) {
    this.shared = shared;
    this.talk = load();
    this.answering = null;
    this.build(main);
    this.names = [];
    const asked = new URLSearchParams(location.hash.split("?")[1] ?? "").get("model");
    if (asked) this.talk.model = asked;
    this.stop = shared.follow((status) => this.offer(status.models.map((model) => model.name)));
    listModels().then((models) => this.offer(models.map((model) => model.id)), () => {});
    this.draw();
  }

  leave() {
    this.answering?.abort();
    this.stop();
  }

  build(main) {
    this.models = h("select", { "aria-label": "Model", onchange: () => this.keep({ model: this.models.value }) });
    this.system = h("textarea", { rows: 2, placeholder: "How the model should behave", value: this.talk.system, oninput: () => this.keep({ system: this.system.value }) });
    this.log = h("div", { class: "messages", role: "log", "aria-label": "Conversation", "aria-live": "off", tabindex: "0" });
    this.input = h("textarea", { rows: 1, placeholder: "Message", "aria-label": "Message", "data-focus": "", onkeydown: (event) => this.onKey(event), oninput: () => this.grow() });
    this.button = h("button", { class: "main", type: "submit" }, "Send");
    const inputs = FIELDS.map(([name, title, limits]) =>
      h("label", {}, title, h("input", { type: "number", ...limits, value: this.talk.parameters[name] ?? "", oninput: (event) => this.set(name, event.target) })),
    );
    const root = h(
      "div",
      { class: "page chat" },
      h("h1", { class: "hidden" }, TITLE),
      h(
        "div",
        { class: "row chat-bar" },
        this.models,
        h("span", { class: "grow" }),
        h("button", { type: "button", "data-action": "clear", "aria-label": "New conversation", title: "New conversation" }, "New"),
      ),
      h("details", { class: "parameters" }, h("summary", {}, "Parameters"), h("div", { class: "fields" }, h("label", { class: "wide" }, "System prompt", this.system), inputs)),
      this.log,
      h("form", { class: "composer", onsubmit: (event) => (event.preventDefault(), this.send()) }, this.input, this.button),
    );
    listen(root, { clear: () => this.clear(), copy: ({ index }, element) => this.copy(index, element), again: () => this.again() });
    main.append(root);
    this.input.focus({ preventScroll: true });
  }

  offer(names) {
    if (names.join("\n") === this.names.join("\n")) return;
    this.names = names;
    if (!names.includes(this.talk.model)) this.talk.model = names[0] ?? "";
    patch(this.models, names.length ? names.map((name) => h("option", { value: name, "data-key": name }, name)) : [h("option", { value: "" }, "no model")]);
    this.models.value = this.talk.model;
  }

  keep(change) {
    Object.assign(this.talk, change);
    try {
      localStorage.setItem(STORE, JSON.stringify(this.talk));
    } catch {
      this.shared.notify("The conversation is too long to be kept in this browser.");
    }
  }

  set(name, input) {
    const { [name]: _, ...others } = this.talk.parameters;
    const isSet = input.value !== "" && input.validity.valid;
    this.keep({ parameters: isSet ? { ...others, [name]: Number(input.value) } : others });
  }

  onKey(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!this.answering) this.send();
    } else if (event.key === "Escape") {
      this.answering?.abort();
    }
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight + 2, 200)}px`;
  }

  clear() {
    this.answering?.abort();
    this.keep({ messages: [] });
    this.draw();
    this.input.focus();
  }

  async copy(index, element) {
    try {
      await navigator.clipboard.writeText(this.talk.messages[index].text);
      element.textContent = "Copied";
    } catch {
      this.shared.notify("The browser does not let this page copy.");
    }
  }

  send() {
    if (this.answering) return this.answering.abort();
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = "";
    this.grow();
    this.talk.messages.push({ role: "user", text });
    this.answer();
  }

  again() {
    if (this.answering) return;
    while (this.talk.messages.at(-1)?.role === "assistant") this.talk.messages.pop();
    if (this.talk.messages.length) this.answer();
  }

  request() {
    const told = this.talk.messages.filter((one) => one.role === "user" || one.text).map(({ role, text }) => ({ role, content: text }));
    const system = this.talk.system.trim() ? [{ role: "system", content: this.talk.system }] : [];
    return { model: this.talk.model, messages: [...system, ...told], ...this.talk.parameters };
  }

  async answer() {
    const request = this.request();
    const message = { role: "assistant", text: "", reasoning: "", tools: [], model: this.talk.model };
    this.talk.messages.push(message);
    const stop = (this.answering = new AbortController());
    const clock = new Clock();
    this.button.textContent = "Stop";
    this.draw();
    try {
      await streamChat(request, stop.signal, (part) => {
        take(message, part);
        clock.saw(part);
        message.speed = clock.facts();
        this.drawSoon();
      });
    } catch (error) {
      if (stop.signal.aborted) message.stopped = true;
      else message.error = error.message;
    }
    message.speed = clock.facts();
    this.answering = null;
    this.button.textContent = "Send";
    this.keep({});
    this.draw();
    this.shared.announce(message.error ?? `Answer: ${message.text.slice(0, 400)}`);
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const { messages } = this.talk;
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
    const nodes = messages.map((one, index) => messageNode(one, index, index === messages.length - 1, Boolean(this.answering)));
    patch(this.log, nodes.length ? nodes : [h("p", { class: "dim empty" }, "Say something. The conversation stays in this browser.")]);
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }
}

/** Times an answer as its reader sees it. */
class Clock {
  constructor() {
    this.started = performance.now();
    this.first = null;
    this.pieces = 0;
    this.tokens = null;
  }

  saw(part) {
    if (part.usage) this.tokens = part.usage.completion_tokens;
    if (!part.text && !part.reasoning && !part.tools) return;
    this.first ??= performance.now();
    this.last = performance.now();
    this.pieces += 1;
  }

  facts() {
    if (this.first === null) return null;
    const tokens = this.tokens ?? this.pieces;
    const span = (this.last - this.first) / 1000;
    return { ttft: (this.first - this.started) / 1000, tokens, rate: tokens > 1 && span > RATED_S ? (tokens - 1) / span : null };
  }
}

function take(message, part) {
  if (part.id) message.id = part.id;
  if (part.text) message.text += part.text;
  if (part.reasoning) message.reasoning += part.reasoning;
  if (part.finish) message.finish = part.finish;
  for (const call of part.tools ?? []) {
    const own = (message.tools[call.index ?? 0] ??= { name: "", arguments: "" });
    own.name += call.function?.name ?? "";
    own.arguments += call.function?.arguments ?? "";
  }
}

function messageNode(one, index, isLast, answering) {
  const isUser = one.role === "user";
  const isWaiting = isLast && answering && !one.text && !one.reasoning;
  return h(
    "article",
    { class: `message ${one.role}`, "data-key": index, "aria-label": isUser ? "You" : one.model, "aria-busy": isLast && answering && !isUser ? "true" : null },
    one.reasoning && h("details", { class: "reasoning" }, h("summary", {}, "Reasoning"), h("div", {}, one.reasoning)),
    h("div", { class: "text" }, isUser ? one.text : markdown(one.text), isWaiting && !isUser && h("span", { class: "waiting", "aria-label": "waiting" })),
    (one.tools ?? []).filter(Boolean).map((tool) => h("div", { class: "tool" }, h("strong", {}, tool.name), h("pre", {}, tool.arguments))),
    one.error && h("p", { class: "error", role: "alert" }, one.error),
    h("footer", { class: "dim" }, isUser ? null : facts(one), buttons(one, index, isLast, answering)),
  );
}

function facts(one) {
  const parts = [one.model];
  if (one.speed) {
    parts.push(`first token ${duration(one.speed.ttft)}`, plural(one.speed.tokens, "token"));
    if (one.speed.rate) parts.push(`${number(one.speed.rate)} tokens/s`);
  }
  if (one.stopped) parts.push("stopped");
  else if (one.finish && one.finish !== "stop") parts.push(`ended: ${one.finish}`);
  return parts.map((part) => h("span", {}, part));
}

function buttons(one, index, isLast, answering) {
  if (isLast && answering) return null;
  const isAnswer = one.role === "assistant";
  return h(
    "span",
    { class: "quiet" },
    one.text && h("button", { class: "small", type: "button", "data-action": "copy", "data-index": index }, "Copy"),
    isAnswer && isLast && h("button", { class: "small", type: "button", "data-action": "again" }, "Again"),
    isAnswer && one.id && h("a", { href: `#/requests?id=${encodeURIComponent(one.id)}` }, "Why"),
  );
}
