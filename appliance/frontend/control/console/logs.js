// Logs: the last lines of any process, dead ones too, and those that come.

import { read } from "./api.js";
import { h, patch } from "./dom.js";
import { clock } from "./format.js";

export const TITLE = "Logs";

const EVERY_MS = 1000;
const KEPT = 2000;
const ALL = "*";

export function enter(main, shared) {
  const ended = new AbortController();
  const state = { component: sessionStorage.getItem("logs") ?? ALL, lines: [], filter: "", paused: false, follow: true };
  const sources = h("select", { "aria-label": "Component", onchange: () => choose(sources.value) });
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter", "data-focus": "", oninput: () => ((state.filter = filter.value.toLowerCase()), draw()) });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => setPaused(!state.paused) }, "Pause");
  const follow = h("input", { type: "checkbox", checked: true, onchange: () => ((state.follow = follow.checked), draw()) });
  const text = h("div", { class: "log", role: "log", "aria-live": "off", tabindex: "0", "aria-label": "Log lines" });
  const note = h("p", { class: "dim" });
  main.append(
    h(
      "div",
      { class: "page logs" },
      h("div", { class: "row wrap" }, h("h1", { class: "grow" }, TITLE), sources, filter, pause, h("label", { class: "check" }, follow, "Follow")),
      text,
      note,
    ),
  );

  function choose(name) {
    state.component = name;
    state.lines = [];
    sessionStorage.setItem("logs", name);
    draw();
    look();
  }

  function setPaused(value) {
    state.paused = value;
    pause.setAttribute("aria-pressed", String(value));
    pause.textContent = value ? "Go on" : "Pause";
    if (!value) look();
  }

  function draw() {
    const shown = state.filter ? state.lines.filter((line) => `${line.worker} ${line.text}`.toLowerCase().includes(state.filter)) : state.lines;
    patch(text, shown.map((line) => lineNode(line)));
    note.textContent = `${shown.length} of ${state.lines.length} lines${state.paused ? ", paused" : ""}`;
    if (state.follow) text.scrollTop = text.scrollHeight;
  }

  async function look() {
    const { component } = state;
    try {
      const found = await read("logs", { component, after: state.lines.at(-1)?.at ?? 0, lines: 500 }, ended.signal);
      if (component !== state.component || state.paused || !found.lines.length) return;
      state.lines.push(...found.lines);
      state.lines.splice(0, state.lines.length - KEPT);
      draw();
    } catch (error) {
      if (error.status === 404 && component === state.component) note.textContent = error.message;
    }
  }

  async function keep() {
    while (!ended.signal.aborted) {
      if (!state.paused && !document.hidden) await look();
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  const stop = shared.follow((status) => {
    const names = [ALL, ...status.logs];
    if (!names.includes(state.component)) names.push(state.component);
    patch(sources, names.map((name) => h("option", { value: name, "data-key": name }, name === ALL ? "everything" : name)));
    sources.value = state.component;
  });
  keep();
  return () => {
    ended.abort();
    stop();
  };
}

const LEVELS = [
  ["error", /\b(error|critical|fatal|traceback)\b/i],
  ["warning", /\bwarn(ing)?\b/i],
];

const STAMP = /^\d{4}-\d\d-\d\dT[\d:.]+Z /;

/** Without the time, which stands in front, and the columns of our own lines. */
const plain = (text) => (STAMP.test(text) ? text.replace(STAMP, "").replace(/ {2,}/g, " ").replace(" ]", "]") : text);

function lineNode(line) {
  const level = LEVELS.find(([, mark]) => mark.test(line.text))?.[0];
  return h("div", { class: "line", "data-level": level ?? null, "data-key": `${line.at}/${line.worker}` }, h("time", {}, clock(line.at)), h("span", { class: "who" }, line.worker), h("span", { class: "what" }, plain(line.text)));
}
