/**
 * What a notebook's front end is given, after the page's modules: `modules`, `PAGE`, `STYLE` and `WORKER` stand above it.
 *
 * The modules find their elements by their ids in `document`. Here that is one cell's face, in a shadow root of its own;
 * what the cell does not show is there all the same, in a copy of the page that is never drawn.
 */

/* global modules, PAGE, STYLE, WORKER */

function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "morphing-faces";
  const root = document.createElement("div");
  root.className = "cell";
  const page = new DOMParser().parseFromString(PAGE, "text/html");
  const take = (selector) => document.adoptNode(page.querySelector(selector));
  const style = document.createElement("style");
  style.textContent = STYLE;
  const [square, random, undo, redo, freeze, symbols] = ["#stage", "#random", "#undo", "#redo", "#freeze", ".symbols"].map(take);
  for (const part of ["#loading", "#message"]) square.querySelector(part)?.remove();
  const axes = document.createElement("div");
  axes.className = "row";
  axes.innerHTML =
    '<label>across <select aria-label="Dimension across"></select></label>' +
    '<label>up <select aria-label="Dimension up"></select></label>' +
    '<label>range <input type="range" min="0.25" max="4" step="0.05" aria-label="Range"></label>';
  const tools = document.createElement("div");
  tools.className = "row";
  tools.append(random, undo, redo, freeze);
  const words = document.createElement("p");
  words.innerHTML = '<span data-part="where"></span> <span data-part="said" role="status"></span>';
  root.append(symbols, square, tools, axes, words);
  host.attachShadow({ mode: "open" }).append(style, root);
  el.append(host);

  const find = (id) => root.querySelector(`[id="${id}"]`) ?? page.getElementById(id);
  const own = {
    getElementById: find,
    querySelector: (selector) => root.querySelector(selector) ?? page.querySelector(selector),
    querySelectorAll: (selector) => root.querySelectorAll(selector),
    body: root,
    documentElement: root,
  };
  const inner = new Proxy(document, {
    get(whole, key) {
      if (key in own) return own[key];
      const value = Reflect.get(whole, key, whole);
      return typeof value === "function" ? value.bind(whole) : value;
    },
  });
  requestAnimationFrame(() => el.closest(".jp-OutputArea-child")?.classList.add("morphing-faces-live")); // el is in the page by then
  const leave = modules(inner).show(model, root, WORKER);
  return () => {
    leave();
    host.remove();
  };
}

export default { render };
