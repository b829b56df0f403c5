// Models: what is served, in which state, and what can be done about it.

import { act } from "./api.js";
import { h, listen, patch } from "./dom.js";
import { age, plural } from "./format.js";
import { components, reasonOf, statePill } from "./graph.js";

export const TITLE = "Models";

const SWITCH = "load"; // one element for either, so that the focus stays where it was

export function enter(main, shared) {
  const list = h("div");
  const root = h("div", { class: "page" }, h("h1", {}, TITLE), list);
  main.append(root);
  listen(root, {
    load: ({ model }) => shared.run(`${model} is to be loaded`, () => act("load_model", { model })),
    unload: ({ model }) => shared.run(`${model} is to be unloaded; it can be loaded again`, () => act("unload_model", { model })),
    start: (data) => scale(data, 1, shared),
    stop: async (data) => {
      const question = `Stop ${data.model}? Requests for it then wait until it is started again.`;
      if (await shared.confirm(question, "Stop it")) await scale(data, 0, shared);
    },
  });
  return shared.follow((status) => patch(list, [cards(status)]));
}

const scale = ({ model, components: text }, replicas, shared) =>
  shared.run(`${model} ${replicas ? "starts" : "stops"}`, async () => {
    for (const { name, graph } of JSON.parse(text)) await act("scale", { component: name, graph, replicas });
  });

function cards(status) {
  const groups = components(status);
  if (!status.models.length) {
    return h("p", { class: "dim" }, "No model is served. Start one with ", h("code", {}, "dynamo-appliance serve MODEL"), ".");
  }
  return h("ul", { class: "cards" }, status.models.map((model) => card(model, status, groups)));
}

function card(model, status, groups) {
  const own = groups.filter((group) => group.model === model.name && group.replicas !== null);
  const workers = own.flatMap((group) => group.workers);
  const engines = [...new Set(workers.map((one) => one.engine).filter(Boolean))].join(", ");
  const facts = [
    model.base && ["Adapter of", model.base],
    ["Workers", `${workers.filter((one) => one.state === "ready").length} of ${own.reduce((sum, one) => sum + one.replicas, 0)} ready`],
    ["Engine", engines || "–"],
    ["Context", model.context_length ? `${model.context_length} tokens` : "–"],
    ["Components", own.map((one) => `${one.graph}/${one.name}`).join(", ") || "–"],
    ["Known for", age(Date.now() / 1000 - model.created)],
    ["Running", plural(status.requests.filter((one) => one.model === model.name).length, "request")],
  ];
  return h(
    "li",
    { class: "card", "data-key": model.name },
    h("div", { class: "row" }, h("h2", { class: "grow" }, model.name), statePill(model.phase)),
    // Always there, so that what follows stays the same elements when the reason comes and goes.
    h("div", {}, reasonOf(model), model.phase === "starting" && progress(model, workers)),
    h("dl", { class: "facts-table" }, facts.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", { class: "buttons" }, h("a", { class: "button main", href: `#/chat?model=${encodeURIComponent(model.name)}` }, "Chat"), switches(model, own, status.actions)),
  );
}

/** How far the slowest of its workers is, and how long that will take, as far as these are known. */
function progress(model, workers) {
  const known = workers.filter((one) => one.phase === "starting").map((one) => one.progress?.fraction ?? -1);
  const fraction = known.length ? Math.min(...known) : -1;
  const left = model.ready_at ? model.ready_at - Date.now() / 1000 : 0;
  return [
    h("progress", { max: 1, value: fraction >= 0 ? fraction : null, "aria-label": `${model.name} is loaded` }),
    left >= 1 && h("p", { class: "reason calm" }, `about ${age(left)} left`),
  ];
}

function switches(model, own, may) {
  if (!own.length) return null;
  const data = { type: "button", "data-model": model.name, "data-components": JSON.stringify(own.map(({ name, graph }) => ({ name, graph }))), disabled: !may };
  const button = (action, text, title, key = action) => h("button", { ...data, "data-action": action, "data-key": key, title }, text);
  if (own.every((one) => one.replicas === 0)) return button("start", "Start", "Have its workers run again");
  const { phase } = model;
  return [
    phase === "cold" && button("load", "Load", "Load it before a request comes", SWITCH),
    phase === "asleep" && button("load", "Wake", "Wake it before a request comes"),
    ["ready", "starting", "asleep"].includes(phase) && button("unload", "Unload", "Free its memory once its requests are done; the next request loads it again", phase === "asleep" ? "unload" : SWITCH),
    button("stop", "Stop", "Scale it to no worker: requests do not start it"),
  ];
}
