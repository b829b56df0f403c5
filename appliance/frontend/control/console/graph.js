// The live graph: front ends, models, and the workers behind them; lines between them while there is room.

import { h, s } from "./dom.js";
import { age, plural } from "./format.js";

const NARROW = 720;

/** The graph of a status. Lines come later, with `drawEdges`. */
export function graph(status) {
  const running = loads(status.requests);
  const groups = components(status);
  const models = status.models.map((model) => modelNode(model, status, groups));
  return h(
    "div",
    { class: "graph" },
    s("svg", { class: "edges", "aria-hidden": "true" }),
    column("Front ends", status.frontends.map((one) => frontEnd(one, status))),
    column("Models", models.length ? models : [h("p", { class: "dim", "data-key": "none" }, "No model is served.")]),
    column("Workers", groups.map((group) => componentNode(group, running, status.actions))),
  );
}

const column = (title, nodes) => h("div", { class: "column", role: "group", "aria-label": title }, h("h3", {}, title), nodes);

export const statePill = (phase) => h("span", { class: "state", "data-phase": phase }, phase);

/** Why a model is not ready; calm where that is as it should be. */
export const reasonOf = ({ phase, reason }) =>
  reason && h("p", { class: phase === "cold" || phase === "asleep" ? "reason calm" : "reason" }, reason);

/** Running requests by worker. */
function loads(requests) {
  const counts = new Map();
  for (const { workers } of requests) {
    if (workers.length) counts.set(workers.at(-1), (counts.get(workers.at(-1)) ?? 0) + 1);
  }
  return counts;
}

/** Worker components of all graphs with their processes, also those with no replica, and processes of no graph. */
export function components(status) {
  const groups = new Map();
  for (const graph of status.graphs) {
    for (const one of graph.components) {
      if (one.model) groups.set(`${graph.name}/${one.name}`, { ...one, graph: graph.name, workers: [] });
    }
  }
  for (const worker of status.workers) {
    const key = `${worker.graph}/${worker.component}`;
    if (!groups.has(key)) groups.set(key, { ...worker, name: worker.component, type: "", replicas: null, workers: [] });
    groups.get(key).workers.push(worker);
  }
  return [...groups].map(([key, group]) => ({ key, ...group, model: group.workers.find((one) => one.model)?.model ?? group.model }));
}

function frontEnd(one, status) {
  return h(
    "article",
    { class: "node", "data-key": one.id, "data-node": `f:${one.id}`, "data-to": status.models.map((m) => `m:${m.name}`).join("\n") },
    h("div", { class: "row wrap" }, h("code", { class: "grow" }, one.id), statePill(one.phase)),
    h("p", { class: "dim" }, since(one)),
  );
}

function modelNode(model, status, groups) {
  const own = status.requests.filter((one) => one.model === model.name);
  const waiting = own.filter((one) => !one.workers.length).length;
  const targets = groups.filter((group) => group.model === model.name).map((group) => `c:${group.key}`);
  return h(
    "article",
    { class: "node", "data-key": model.name, "data-node": `m:${model.name}`, "data-to": targets.join("\n") },
    h("div", { class: "row" }, h("strong", { class: "grow" }, model.name), statePill(model.phase)),
    reasonOf(model),
    h("p", { class: "dim" }, `${own.length - waiting} running, ${waiting} waiting`),
  );
}

function componentNode(group, running, may) {
  const busy = group.workers.some((one) => running.get(one.id));
  const wanted = group.replicas;
  const data = { "data-component": group.name, "data-graph": group.graph };
  const scale = (to, sign, text) =>
    h("button", { class: "small", type: "button", "data-action": "scale", ...data, "data-replicas": to, "aria-label": text, title: text, disabled: to < 0 || !may }, sign);
  return h(
    "article",
    { class: "node", "data-key": group.key, "data-node": `c:${group.key}`, "data-busy": busy ? "yes" : "no" },
    h(
      "div",
      { class: "row" },
      h("strong", { class: "grow" }, group.name, h("small", { class: "dim" }, ` ${group.graph}`)),
      wanted !== null && [
        scale(wanted - 1, "−", `One worker less of ${group.name}`),
        h("span", { class: "count", title: "wanted workers" }, String(wanted)),
        scale(wanted + 1, "+", `One worker more of ${group.name}`),
      ],
    ),
    h("ul", { class: "workers" }, group.workers.map((one) => workerRow(one, running.get(one.id) ?? 0, may))),
    !group.workers.length && h("p", { class: "dim" }, "no worker is wanted"),
  );
}

function workerRow(one, count, may) {
  const fraction = one.progress?.fraction ?? -1;
  const starting = one.phase === "starting" && one.progress;
  const facts = [since(one), one.restarts > 0 && plural(one.restarts, "restart"), count > 0 && `${count} running`];
  return h(
    "li",
    { "data-key": one.id, "data-worker": one.id },
    h(
      "div",
      { class: "row" },
      h("code", { class: "grow" }, one.id),
      statePill(one.state),
      h("button", { class: "small", type: "button", "data-action": "restart", "data-worker": one.id, "aria-label": `Restart ${one.id}`, title: "Restart", disabled: !may }, "↻"),
    ),
    h("p", { class: "dim" }, facts.filter(Boolean).join(" · ")),
    starting && h("p", { class: "reason" }, one.progress.text),
    starting && fraction >= 0 && h("progress", { max: 1, value: fraction, "aria-label": one.progress.text }),
    one.phase !== "ready" && !starting && one.reason && h("p", { class: "reason" }, one.reason),
  );
}

const since = (one) => (one.state_since ? `for ${age(Date.now() / 1000 - one.state_since)}` : "");

/** Draws the lines between the nodes that are shown under `place`. */
export function drawEdges(place) {
  const box = place.querySelector(".graph");
  const svg = box?.querySelector(".edges");
  if (!svg) return;
  const frame = box.getBoundingClientRect();
  if (frame.width < NARROW) return svg.replaceChildren();
  const nodes = new Map([...box.querySelectorAll("[data-node]")].map((node) => [node.dataset.node, node]));
  const edges = [];
  for (const node of nodes.values()) {
    for (const name of (node.dataset.to ?? "").split("\n")) {
      if (nodes.has(name)) edges.push(edge(node, nodes.get(name), frame));
    }
  }
  svg.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  svg.replaceChildren(...edges);
}

function edge(from, to, frame) {
  const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
  const [x1, y1] = [a.right - frame.left, a.top + Math.min(a.height / 2, 32) - frame.top];
  const [x2, y2] = [b.left - frame.left, b.top + Math.min(b.height / 2, 32) - frame.top];
  const bend = (x2 - x1) / 2;
  const d = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  return s("path", { d, class: to.dataset.busy === "yes" ? "busy" : null });
}
