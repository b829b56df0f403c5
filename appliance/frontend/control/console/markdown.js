// A little Markdown as DOM nodes: code blocks, headings, lists, quotes, bold, italics, code and web links.
// Builds nodes only; whatever it does not know stays as the text it was.

import { h } from "./dom.js";

const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*([^\s*](?:[^*]*[^\s*])?)\*\*|\*([^\s*](?:[^*]*[^\s*])?)\*|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/g;

function inline(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    parts.push(text.slice(at, found.index));
    const [whole, , code, bold, italic, label, address] = found;
    if (code !== undefined) parts.push(h("code", {}, code));
    else if (bold !== undefined) parts.push(h("strong", {}, inline(bold)));
    else if (italic !== undefined) parts.push(h("em", {}, inline(italic)));
    else parts.push(h("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, label));
    at = found.index + whole.length;
  }
  parts.push(text.slice(at));
  return parts.filter((part) => part !== "");
}

const BLOCKS = [
  [/^(#{1,4})\s+(.*)$/, (found) => h(`h${Math.min(found[1].length + 2, 6)}`, {}, inline(found[2]))],
  [/^(?:-{3,}|\*{3,})\s*$/, () => h("hr")],
];

function list(lines, at, mark, tag) {
  const items = [];
  while (at < lines.length && mark.test(lines[at])) items.push(h("li", {}, inline(lines[at++].replace(mark, ""))));
  return [h(tag, {}, items), at];
}

function code(lines, at) {
  const language = lines[at].trim().slice(3).trim();
  const body = [];
  at += 1;
  while (at < lines.length && !lines[at].trim().startsWith("```")) body.push(lines[at++]);
  const block = h("pre", { tabindex: "0", "aria-label": language ? `code, ${language}` : "code" }, h("code", {}, body.join("\n")));
  return [block, at + 1];
}

/** The nodes of a text. */
export function markdown(text) {
  const lines = text.split("\n");
  const nodes = [];
  let paragraph = [];
  const flush = () => {
    if (paragraph.length) nodes.push(h("p", {}, inline(paragraph.join("\n"))));
    paragraph = [];
  };
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const block = BLOCKS.find(([mark]) => mark.test(line));
    let made = null;
    if (line.trim().startsWith("```")) [made, at] = code(lines, at);
    else if (/^\s*[-*+]\s+/.test(line)) [made, at] = list(lines, at, /^\s*[-*+]\s+/, "ul");
    else if (/^\s*\d+[.)]\s+/.test(line)) [made, at] = list(lines, at, /^\s*\d+[.)]\s+/, "ol");
    else if (block) [made, at] = [block[1](line.match(block[0])), at + 1];
    else if (/^>\s?/.test(line)) [made, at] = [h("blockquote", {}, inline(line.replace(/^>\s?/, ""))), at + 1];
    if (made || !line.trim()) flush();
    if (made) nodes.push(made);
    else at += 1;
    if (!made && line.trim()) paragraph.push(line);
  }
  flush();
  return nodes;
}
