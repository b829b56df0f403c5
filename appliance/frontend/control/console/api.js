// Calls of the appliance, with the key of this tab. A 401 asks for a key once and tries again.

import { PATHS } from "./paths.js";

const API = "/console/api/";
const KEY = "api-key";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const storedKey = () => sessionStorage.getItem(KEY) ?? "";
export const forgetKey = () => sessionStorage.removeItem(KEY);

let asking = null;

/** Opens the key dialog and resolves when it was closed; several callers share one dialog. One that `must` be
 * answered opens again when it is closed without a key. */
export function askForKey(message = "", must = false) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const error = document.getElementById("key-error");
    error.textContent = message;
    error.hidden = !message;
    const input = document.getElementById("key");
    input.value = "";
    dialog.querySelector("form").onsubmit = () => sessionStorage.setItem(KEY, input.value.trim());
    dialog.returnValue = "";
    dialog.onclose = () => {
      if (must && dialog.returnValue !== "open") return dialog.showModal();
      asking = null;
      resolve();
    };
    if (!dialog.open) dialog.showModal();
    input.focus();
  });
  return asking;
}

/** `fetch` with the key. Asks for one on 401. Throws what `fetch` throws: an aborted signal, a lost connection. */
export async function call(path, options = {}) {
  for (;;) {
    const key = storedKey();
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    const answer = await fetch(path, { ...options, headers });
    if (answer.status !== 401) return answer;
    await answer.body?.cancel();
    // Another caller may have got a new key meanwhile.
    if (storedKey() === key) await askForKey(key ? "This key is not known here." : "", true);
    options.signal?.throwIfAborted();
  }
}

/** The text of an error answer, in whichever shape it comes. */
export async function failure(answer) {
  try {
    const body = await answer.json();
    return new ApiError(body.error?.message ?? `HTTP ${answer.status}`, answer.status);
  } catch {
    return new ApiError(`HTTP ${answer.status}`, answer.status);
  }
}

async function json(path, options) {
  const answer = await call(path, options);
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

/** A read of the console's API. */
export function read(name, query = {}, signal = undefined) {
  const text = new URLSearchParams(query).toString();
  return json(API + name + (text ? `?${text}` : ""), { signal });
}

/** An action of the console's API. */
export function act(name, body) {
  const headers = { "content-type": "application/json", "x-appliance-console": "1" };
  return json(API + name, { method: "POST", headers, body: JSON.stringify(body) });
}

export const listModels = (signal) => json(PATHS.models, { signal }).then((list) => list.data);

export { PATHS };
