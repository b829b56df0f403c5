// Requests: those that run and the last that ended, with their timings, and why each went as it did.

import { read } from "./api.js";
import { h, listen, patch } from "./dom.js";
import { age, clock, duration, number } from "./format.js";
import { events } from "./overview.js";

export const TITLE = "Requests";

const EVERY_MS = 1500;
const STEP = 50; // rows that are shown at first, and more by
const RATED_S = 0.005; // a shorter time after the first token tells no rate
const COLUMNS = ["Time", "Model", "Status", "First token", "Duration", "In", "Out", "Cached", "Tokens/s", "Worker"];

const asked = () => {
  const id = new URLSearchParams(location.hash.split("?")[1] ?? "").get("id");
  return id?.replace(/^(chatcmpl|cmpl|resp|msg)[-_]/, "") ?? null;
};

export function enter(main, shared) {
  const ended = new AbortController();
  const state = { rows: [], open: asked(), why: null, filter: "", most: STEP };
  const table = h("div");
  const filter = h("input", { type: "search", placeholder: "Filter by model, status, worker or id", "aria-label": "Filter", "data-focus": "", oninput: () => ((state.filter = filter.value.toLowerCase()), draw()) });
  const root = h("div", { class: "page" }, h("div", { class: "row" }, h("h1", { class: "grow" }, TITLE), filter), table);
  main.append(root);
  const draw = () => patch(table, [list(state)]);
  const look = async () => {
    state.why = state.open ? await read("why", { subject: state.open }, ended.signal).catch(() => null) : null;
    draw();
  };
  listen(root, {
    more: () => ((state.most += STEP), draw()),
    open: ({ id }) => {
      state.open = state.open === id ? null : id;
      state.why = null;
      look();
    },
  });
  const onHash = () => {
    if (asked() && asked() !== state.open) [state.open, state.why] = [asked(), null];
  };
  addEventListener("hashchange", onHash, { signal: ended.signal });
  const keep = async () => {
    while (!ended.signal.aborted) {
      try {
        const found = await read("requests", {}, ended.signal);
        state.rows = [...found.active.map(running), ...found.ended];
        await look();
      } catch (error) {
        if (ended.signal.aborted) return;
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  };
  draw();
  keep();
  return () => ended.abort();
}

const running = (one) => ({ ...one, status: one.workers.length ? "running" : "waiting", started: Date.now() / 1000 - one.age_s, duration_s: one.age_s, ttft_s: null, cached_tokens: null, error: "" });

function list(state) {
  const rows = state.rows.filter((one) => !state.filter || JSON.stringify(one).toLowerCase().includes(state.filter));
  const missing = state.open && !state.rows.some((one) => one.id === state.open);
  if (!rows.length && !missing) return h("p", { class: "dim" }, state.filter ? "Nothing matches." : "No request was made yet.");
  const more = rows.length > state.most && h("div", { class: "buttons" }, h("button", { type: "button", "data-action": "more" }, `${rows.length - state.most} more`));
  return h("div", {}, rowsTable(state, rows.slice(0, state.most), missing), more);
}

function rowsTable(state, rows, missing) {
  return h(
    "table",
    { class: "table", role: "table" }, // the roles stay when narrow pages show cards
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((title) => h("th", { scope: "col", role: "columnheader" }, title)))),
    h("tbody", { role: "rowgroup" }, missing && detail(state, null), rows.map((one) => [row(one, state.open === one.id), state.open === one.id && detail(state, one)])),
  );
}

function row(one, isOpen) {
  const span = one.ttft_s === null ? 0 : one.duration_s - one.ttft_s;
  const rate = one.output_tokens > 1 && span > RATED_S ? (one.output_tokens - 1) / span : null;
  const cells = [
    h("button", { class: "link", type: "button", "data-action": "open", "data-id": one.id, "aria-expanded": String(isOpen), title: one.id }, clock(one.started)),
    one.model || "–",
    h("span", { class: "state", "data-phase": phase(one.status) }, one.status),
    duration(one.ttft_s),
    duration(one.duration_s),
    one.prompt_tokens || "–",
    one.output_tokens,
    one.cached_tokens ?? "–",
    rate === null ? "–" : number(rate),
    one.workers.at(-1) ?? "–",
  ];
  return h("tr", { "data-key": one.id, role: "row" }, cells.map((cell, index) => h("td", { "data-label": COLUMNS[index], role: "cell" }, typeof cell === "number" ? String(cell) : cell)));
}

const phase = (status) => ({ success: "ready", running: "starting", waiting: "draining", cancelled: "stopped" })[status] ?? "failed";

function detail(state, one) {
  const why = state.why;
  return h(
    "tr",
    { class: "detail", "data-key": `${state.open}/why`, role: "row" },
    h(
      "td",
      { colspan: COLUMNS.length, role: "cell" },
      h("p", {}, h("code", {}, state.open), one && ` ${one.endpoint}${one.stream ? ", streamed" : ""}, ${age(Date.now() / 1000 - one.started)} ago`),
      one?.error && h("p", { class: "error" }, one.error),
      one && timeline(one),
      one?.workers.length > 1 && h("p", {}, `Moved over ${one.workers.join(" → ")}`),
      h("h3", {}, "Why"),
      (why?.placements ?? []).map(placement),
      why ? events(why.events) : h("p", { class: "dim" }, one ? "Asking…" : "This request is no longer known."),
    ),
  );
}

const COSTS = [["overlap_blocks", "cached blocks"], ["prefill_tokens", "prefill tokens"], ["decode_blocks", "decode blocks"], ["cost", "cost"]];

/** One decision of the router: who got it, and what spoke for and against each worker. */
function placement(one) {
  const facts = [
    one.worker ? `Placed on ${one.worker}` : "Placed on no worker",
    one.role !== "aggregated" && one.role,
    `mode ${one.mode}`,
    one.queue_wait_s > 0 && `waited ${duration(one.queue_wait_s)}`,
    one.moved_from.length > 0 && `moved from ${one.moved_from.join(", ")}`,
  ];
  const candidates = one.candidates.map((row) => {
    const costs = COSTS.filter(([name]) => row[name] !== undefined).map(([name, title]) => `${title} ${number(row[name])}`);
    const verdict = row.chosen ? "chosen" : (row.excluded && `left out: ${row.excluded}`) || "possible";
    return h("li", {}, h("code", {}, row.rank ? `${row.worker} rank ${row.rank}` : row.worker), h("span", { class: row.chosen ? "verb" : "dim" }, verdict), h("span", { class: "dim" }, costs.join(", ")));
  });
  return h("div", { class: "placement" }, h("p", {}, `${facts.filter(Boolean).join(", ")}: ${one.reason}`), h("ul", {}, candidates));
}

/** Where its time went: until the first token, and after it. */
function timeline(one) {
  const total = one.duration_s || 1e-6;
  const first = one.ttft_s ?? total;
  const share = `${((first / total) * 100).toFixed(1)}%`;
  const text = one.ttft_s === null ? `${duration(total)}, no token` : `first token after ${duration(first)}, then ${duration(total - first)} of tokens`;
  return h("div", {}, h("div", { class: "bar thin", role: "img", "aria-label": text }, h("span", { class: "part before", style: { width: share } }), one.ttft_s !== null && h("span", { class: "part after grow" })), h("p", { class: "dim" }, text));
}
