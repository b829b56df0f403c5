// Builds DOM trees from data, and brings a tree that is shown to the state of a new one without losing focus.
// Text always becomes text nodes: nothing that a model or a log says is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

/** An HTML element. Attributes that are null or false are left out; `on...` are listeners. */
export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

function alike(shown, wanted) {
  return shown.nodeType === wanted.nodeType && shown.nodeName === wanted.nodeName && keyOf(shown) === keyOf(wanted);
}

function copyAttributes(shown, wanted) {
  for (const { name, value } of [...wanted.attributes]) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) {
    // What the user unfolded stays so.
    if (!wanted.hasAttribute(name) && !(name === "open" && shown.nodeName === "DETAILS")) shown.removeAttribute(name);
  }
}

/** Makes the children of `shown` equal to `nodes`. Nodes with the same `data-key` stay the same; use no listeners in
 * what is patched, only `data-action` and one listener on what is around it. */
export function patch(shown, nodes) {
  let at = shown.firstChild;
  for (const wanted of nodes.flat(Infinity).filter(Boolean)) {
    const node = typeof wanted === "string" ? document.createTextNode(wanted) : wanted;
    let found = at;
    while (found && !alike(found, node)) found = keyOf(node) === null ? null : found.nextSibling;
    if (!found) {
      shown.insertBefore(node, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else shown.insertBefore(found, at);
    update(found, node);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function update(shown, wanted) {
  if (shown.nodeType !== Node.ELEMENT_NODE) {
    if (shown.data !== wanted.data) shown.data = wanted.data;
    return;
  }
  copyAttributes(shown, wanted);
  patch(shown, [...wanted.childNodes]);
}

/** Calls `actions[name](data, element)` for clicks on elements with `data-action=name` inside `root`. */
export function listen(root, actions) {
  root.addEventListener("click", (event) => {
    const element = event.target.closest("[data-action]");
    if (element && root.contains(element)) actions[element.dataset.action]?.(element.dataset, element);
  });
}

/** Tells a screen reader. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}
