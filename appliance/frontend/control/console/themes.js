// The theme: what the system wants, or what was chosen here.

const ORDER = ["auto", "light", "dark"];

export const theme = () => localStorage.getItem("theme") ?? "auto";

export function setTheme(name) {
  if (name === "auto") {
    localStorage.removeItem("theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("theme", name);
    document.documentElement.dataset.theme = name;
  }
}

export const nextTheme = () => setTheme(ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length]);
