// Settings of this browser, and how to call the appliance from elsewhere.

import { PATHS, askForKey, forgetKey, storedKey } from "./api.js";
import { h, listen, patch } from "./dom.js";
import { age } from "./format.js";
import { setTheme, theme } from "./themes.js";

export const TITLE = "Settings";

export function enter(main, shared) {
  const facts = h("div");
  const keyState = h("p");
  const themes = h("div", { class: "row wrap", role: "radiogroup", "aria-label": "Theme" }, ["auto", "light", "dark"].map((name) =>
    h("label", { class: "check" }, h("input", { type: "radio", name: "theme", value: name, checked: theme() === name, onchange: () => setTheme(name) }), name)));
  const root = h(
    "div",
    { class: "page" },
    h("h1", {}, TITLE),
    h("section", { class: "card" }, h("h2", {}, "Theme"), themes),
    h("section", { class: "card" }, h("h2", {}, "API key"), keyState, h("div", { class: "buttons" }, h("button", { type: "button", "data-action": "key" }, "Enter a key"), h("button", { type: "button", "data-action": "forget" }, "Forget it"))),
    h("section", { class: "card" }, h("h2", {}, "Call it"), facts),
  );
  main.append(root);
  const drawKey = () => (keyState.textContent = storedKey() ? "A key is kept in this tab." : "No key is kept.");
  listen(root, {
    key: () => askForKey().then(drawKey),
    forget: () => (forgetKey(), drawKey()),
    copy: (_, element) => navigator.clipboard.writeText(root.querySelector("#call").textContent).then(() => (element.textContent = "Copied"), () => shared.notify("The browser does not let this page copy.")),
  });
  drawKey();
  return shared.follow((status) => patch(facts, [about(status)]));
}

function about(status) {
  const model = status.models[0]?.name ?? "MODEL";
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }], stream: true });
  const auth = storedKey() ? " \\\n  -H 'authorization: Bearer KEY'" : "";
  const text = `curl -N ${location.origin}${PATHS.chat} \\\n  -H 'content-type: application/json'${auth} \\\n  -d '${body.replaceAll("'", "'\\''")}'`;
  const links = [["API", "/docs"], ["openapi.json", "/openapi.json"], ["health", PATHS.health], ["metrics", PATHS.metrics]];
  return h(
    "div",
    {},
    h("pre", { id: "call", tabindex: "0", "aria-label": "Example call" }, text),
    h("div", { class: "buttons" }, h("button", { type: "button", "data-action": "copy" }, "Copy")),
    h("p", { class: "facts" }, links.map(([name, address]) => h("a", { href: address }, name))),
    h("p", { class: "dim facts" }, h("span", {}, `version ${status.version}`), h("span", {}, `up ${age(status.uptime_s)}`), h("span", {}, `process ${status.pid}`)),
  );
}
