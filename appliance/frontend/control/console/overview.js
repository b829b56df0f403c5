// The overview: load, the graph of components, GPUs, the last decisions.

import { act, read } from "./api.js";
import { h, listen, patch } from "./dom.js";
import { clock, duration, number, plural, size } from "./format.js";
import { drawEdges, graph } from "./graph.js";
import { sparkline } from "./sparkline.js";

export const TITLE = "Overview";

const LOAD_MS = 2000;
const SLOTS = { least: 30, most: 150 };
const OWNERS = 6;
const TILES = [
  ["Requests", "requests_per_s", (value) => number(value), "per s"],
  ["Output tokens", "output_tokens_per_s", (value) => number(value), "per s"],
  ["First token", "ttft_p50_s", (value) => duration(value), "median"],
  ["Running", "active", (value) => number(value), "requests"],
  ["Waiting", "waiting", (value) => number(value), "requests"],
];

export function enter(main, shared) {
  const ended = new AbortController();
  const root = h("div", { class: "page" });
  const parts = Object.fromEntries(["tiles", "graph", "gpus", "events"].map((name) => [name, h("div")]));
  root.append(
    h("h1", { class: "hidden" }, TITLE),
    section("Load of the last minutes", parts.tiles, "load"),
    section("Components", parts.graph, "components"),
    section("GPUs and machine", parts.gpus, "machine"),
    section("Last decisions", parts.events, "decisions"),
  );
  main.append(root);
  listen(root, actions(shared));
  const samples = [];
  patch(parts.tiles, [tiles(samples)]);
  const stop = shared.follow((status) => {
    patch(parts.graph, [graph(status)]);
    drawEdges(parts.graph);
    patch(parts.gpus, [machine(status)]);
    patch(parts.events, [events(status.events)]);
  });
  const watch = new ResizeObserver(() => drawEdges(parts.graph));
  watch.observe(parts.graph);
  followLoad(samples, parts.tiles, ended.signal);
  return () => {
    ended.abort();
    watch.disconnect();
    stop();
  };
}

const section = (title, body, id) =>
  h("section", { "aria-labelledby": `${id}-title`, class: id }, h("h2", { id: `${id}-title` }, title), body);

function actions(shared) {
  const scale = async ({ component, graph, replicas }) => {
    const wanted = Number(replicas);
    const question = `Stop the last worker of ${component}? Its model is then served only after it is started again.`;
    if (wanted === 0 && !(await shared.confirm(question, "Stop it"))) return;
    await shared.run(`${component} is scaled to ${wanted}`, () => act("scale", { component, graph, replicas: wanted }));
  };
  const restart = async ({ worker }) => {
    const question = `Restart ${worker}? It finishes its requests first.`;
    if (await shared.confirm(question, "Restart")) await shared.run(`${worker} restarts`, () => act("restart", { worker }));
  };
  return { scale, restart };
}

async function followLoad(samples, place, signal) {
  while (!signal.aborted) {
    try {
      const found = await read("load", { since: samples.at(-1)?.at ?? 0 }, signal);
      samples.push(...found.samples);
      samples.splice(0, samples.length - 450);
      patch(place, [tiles(samples)]);
    } catch {
      if (signal.aborted) return; // the state in the header says that nobody answers
    }
    await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
  }
}

function tiles(samples) {
  const latest = samples.at(-1) ?? {};
  return h(
    "ul",
    { class: "tiles" },
    TILES.map(([title, name, format, unit]) => {
      const values = samples.map((sample) => sample[name]);
      return h(
        "li",
        { class: "tile" },
        h("span", { class: "name" }, title),
        h("span", { class: "figure" }, format(latest[name]), h("small", {}, ` ${unit}`)),
        sparkline(values, Math.min(Math.max(values.length, SLOTS.least), SLOTS.most), `${title} over time`),
      );
    }),
  );
}

function machine(status) {
  const { hardware } = status;
  const facts = [
    hardware.cpus && plural(hardware.cpus, "CPU"),
    `${size(hardware.memory_available)} of ${size(hardware.memory_total)} memory free`,
    `${size(hardware.disk_free)} disk free`,
    hardware.gpu_driver && `driver ${hardware.gpu_driver}`,
    hardware.cuda && `CUDA ${hardware.cuda}`,
  ];
  return h(
    "div",
    {},
    h("ul", { class: "gpus" }, status.gpus.map(gpu)),
    !status.gpus.length && h("p", { class: "dim" }, hardware.gpu_defect ? "" : "No GPU: models run on the CPU."),
    hardware.gpu_defect && h("p", { class: "error" }, hardware.gpu_message),
    h("p", { class: "dim facts" }, facts.filter(Boolean).map((fact) => h("span", {}, fact))),
  );
}

function gpu(one) {
  const name = one.sku || one.name;
  return h(
    "li",
    { class: "gpu", "data-key": one.uuid },
    h(
      "div",
      { class: "row" },
      h("strong", {}, `${one.index}`),
      h("span", { class: "grow" }, name),
      h("span", { class: "state", "data-phase": one.health === "ok" ? "ready" : "failed" }, one.health),
    ),
    memory(one),
    h(
      "p",
      { class: "dim facts" },
      one.utilisation !== null && h("span", {}, `${one.utilisation} % busy`),
      one.temperature_c !== null && h("span", {}, `${one.temperature_c} °C`),
      one.power_w !== null && h("span", {}, `${number(one.power_w)} W`),
      one.nvlink_peers.length > 0 && h("span", {}, plural(one.nvlink_peers.length, "NVLink peer")),
      one.reason && h("span", { class: "error" }, one.reason),
    ),
  );
}

/** Used memory by owner, what is promised to them beyond that, and what others hold. */
function memory(one) {
  const total = one.memory_total || 1;
  const parts = one.workers.map((use, index) => ({
    name: use.instance,
    bytes: use.used ?? 0,
    promised: Math.max(0, use.promised - (use.used ?? 0)),
    colour: `var(--owner-${index % OWNERS})`,
  }));
  const owned = parts.reduce((sum, part) => sum + part.bytes, 0);
  const foreign = Math.max(one.memory_foreign ?? 0, one.memory_used - owned, 0);
  const share = (bytes) => `${Math.min(100, (bytes / total) * 100).toFixed(2)}%`;
  const bars = parts.flatMap((part) => [
    part.bytes > 0 && h("span", { class: "part", style: { width: share(part.bytes), background: part.colour } }),
    part.promised > 0 && h("span", { class: "part promised", style: { width: share(part.promised), color: part.colour } }),
  ]);
  const text = `${size(one.memory_used)} of ${size(one.memory_total)} used`;
  return h(
    "div",
    {},
    h(
      "div",
      { class: "bar", role: "img", "aria-label": text },
      bars,
      foreign > 0 && h("span", { class: "part foreign", style: { width: share(foreign) } }),
    ),
    h(
      "ul",
      { class: "legend" },
      h("li", {}, text),
      parts.map((part) =>
        h("li", {}, h("i", { style: { background: part.colour } }), `${part.name} `,
          [part.bytes > 0 && `${size(part.bytes)} used`, part.promised > 0 && `${size(part.promised)} promised`].filter(Boolean).join(", ")),
      ),
      foreign > 1e6 && h("li", {}, h("i", { class: "foreign" }), `others ${size(foreign)}`),
    ),
  );
}

/** Rows of the ledger. */
export function events(items) {
  if (!items.length) return h("p", { class: "dim" }, "Nothing was decided yet.");
  return h(
    "ol",
    { class: "events" },
    items.map((event) =>
      h(
        "li",
        { "data-key": event.id },
        h("time", { title: new Date(event.at * 1000).toLocaleString() }, clock(event.at)),
        h("span", { class: "verb" }, event.action),
        h("code", {}, event.subject),
        h("span", { class: "reason" }, event.reason),
      ),
    ),
  );
}

