// The shell: which page is shown, what is asked for meanwhile, theme, shortcuts and messages.

import { ApiError, askForKey, read } from "./api.js";
import { announce, h, listen, patch } from "./dom.js";
import * as chat from "./chat.js";
import * as logs from "./logs.js";
import * as models from "./models.js";
import * as overview from "./overview.js";
import * as requests from "./requests.js";
import * as settings from "./settings.js";
import { nextTheme, theme } from "./themes.js";

const PAGES = { overview, chat, models, requests, logs, settings };
const KEYS = { o: "overview", c: "chat", m: "models", r: "requests", l: "logs", s: "settings" };
const STATUS_MS = 1500;
const SHORTCUTS = [
  ...Object.entries(KEYS).map(([key, page]) => [`g ${key}`, `Go to ${page}`]),
  ["/", "Go to the filter or the message of the page"],
  ["t", "Next theme"],
  ["Ctrl Enter", "Send the message (Enter does too)"],
  ["Escape", "Stop the answer, close what is open"],
  ["?", "This list"],
];

const main = document.getElementById("main");
const shared = { status: null, statusAt: 0, listeners: new Set(), announce, confirm, notify, follow, refresh, run };
let current = null;
let states = new Map();

/** Calls `listener(status)` with every new status; returns what ends that. */
function follow(listener) {
  shared.listeners.add(listener);
  if (shared.status) listener(shared.status);
  return () => shared.listeners.delete(listener);
}

function show(name) {
  const page = PAGES[name] ? name : "overview";
  if (current?.name === page) return;
  current?.leave?.();
  main.replaceChildren();
  if (current) main.focus({ preventScroll: true }); // a page may put it elsewhere
  main.dataset.page = page;
  document.title = `${PAGES[page].TITLE} – Dynamo appliance`;
  current = { name: page, leave: PAGES[page].enter(main, shared) };
  drawNavigation();
}

function drawNavigation() {
  const links = Object.entries(PAGES).map(([name, page]) =>
    h("a", { href: `#/${name}`, "aria-current": current?.name === name ? "page" : null, "data-key": name }, page.TITLE),
  );
  patch(document.getElementById("nav"), links);
}

const wanted = () => location.hash.replace(/^#\/?/, "").split("/")[0].split("?")[0] || "overview";

function drawState(phase, text) {
  const state = document.getElementById("state");
  if (state.textContent === text) return;
  state.dataset.phase = phase;
  state.textContent = text;
}

/** Says what changed to those who cannot see it. */
function tellChanges(status) {
  const now = new Map(status.workers.map((one) => [one.id, one.state]));
  const news = [...now].filter(([id, state]) => states.size && states.get(id) !== state);
  if (news.length) announce(news.map(([id, state]) => `worker ${id} is ${state}`).join(", "));
  states = now;
}

async function refresh() {
  try {
    const status = await read("status");
    shared.status = status;
    shared.statusAt = Date.now();
    const phase = status.draining ? "draining" : status.ready ? "ready" : "starting";
    drawState(phase, phase);
    document.body.dataset.stale = "no";
    tellChanges(status);
    for (const listener of [...shared.listeners]) listener(status);
  } catch (error) {
    document.body.dataset.stale = "yes";
    drawState("failed", error instanceof ApiError ? "error" : "not reachable");
    if (error instanceof ApiError) notify(error.message);
  }
}

/** Does something, says that it was done or why it was not, and shows what came of it. */
async function run(text, work) {
  try {
    await work();
    announce(text);
  } catch (error) {
    notify(error.message);
  }
  refresh();
}

async function followStatus() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, STATUS_MS));
  }
}

let noticeTimer = 0;

function notify(text) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (notice.hidden = true), 8000);
}

/** Asks before something that hurts; resolves to whether to go on. */
function confirm(text, yes) {
  const dialog = document.getElementById("confirm-dialog");
  document.getElementById("confirm-text").textContent = text;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}

function drawTheme() {
  const button = document.getElementById("theme");
  const name = theme();
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[name];
  button.setAttribute("aria-label", `Theme: ${name}`);
  button.title = `Theme: ${name} (t)`;
}

function turnTheme() {
  nextTheme();
  drawTheme();
  announce(`theme ${theme()}`);
}

function showHelp() {
  const rows = SHORTCUTS.map(([keys, text]) => [
    h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))),
    h("dd", {}, text),
  ]);
  document.getElementById("shortcuts").replaceChildren(...rows.flat());
  document.getElementById("help-dialog").showModal();
}

let going = 0;

function onKey(event) {
  const typing = event.target.closest("input, textarea, select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const isSecond = Date.now() - going < 1500;
  going = 0;
  if (isSecond && KEYS[event.key]) location.hash = `#/${KEYS[event.key]}`;
  else if (event.key === "g") going = Date.now();
  else if (event.key === "?") showHelp();
  else if (event.key === "t") turnTheme();
  else if (event.key === "/") {
    main.querySelector("[data-focus]")?.focus();
    event.preventDefault();
  }
}

addEventListener("hashchange", () => {
  show(wanted());
  scrollTo(0, 0);
});
addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("theme").addEventListener("click", turnTheme);
document.getElementById("help").addEventListener("click", showHelp);
listen(document.body, { "ask-key": () => askForKey() });
drawTheme();
show(wanted());
followStatus();
