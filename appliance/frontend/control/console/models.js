// Models: what is served, in which state, and what can be done about it.

import { act } from "./api.js";
import { h, listen, patch } from "./dom.js";
import { age, plural } from "./format.js";
import { components, statePill } from "./graph.js";

export const TITLE = "Models";

export function enter(main, shared) {
  const list = h("div");
  const root = h("div", { class: "page" }, h("h1", {}, TITLE), list);
  main.append(root);
  listen(root, {
    start: (data) => scale(data, 1, shared),
    stop: async (data) => {
      const question = `Stop ${data.model}? Requests for it then wait until it is started again.`;
      if (await shared.confirm(question, "Stop it")) await scale(data, 0, shared);
    },
  });
  return shared.follow((status) => patch(list, [cards(status)]));
}

async function scale({ model, components: text }, replicas, shared) {
  try {
    for (const { name, graph } of JSON.parse(text)) await act("scale", { component: name, graph, replicas });
    shared.announce(`${model} ${replicas ? "starts" : "stops"}`);
  } catch (error) {
    shared.notify(error.message);
  }
  shared.refresh();
}

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
    model.reason && h("p", { class: "reason" }, model.reason),
    h("dl", { class: "facts-table" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", { class: "buttons" }, h("a", { class: "button main", href: `#/chat?model=${encodeURIComponent(model.name)}` }, "Chat"), switches(model, own, status.actions)),
  );
}

function switches(model, own, may) {
  if (!own.length) return null;
  const data = { type: "button", "data-model": model.name, "data-components": JSON.stringify(own.map(({ name, graph }) => ({ name, graph }))), disabled: !may };
  const isOff = own.every((one) => one.replicas === 0);
  return isOff ? h("button", { ...data, "data-action": "start" }, "Start") : h("button", { ...data, "data-action": "stop" }, "Stop");
}
