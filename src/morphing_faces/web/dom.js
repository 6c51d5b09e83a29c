/** The page's elements, with their types. */

/**
 * The element with an id, checked to be of a kind.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`#${id} is not a ${kind.name} of the page`);
  return element;
}

/**
 * The first match of a selector inside an element, checked to be of a kind.
 * @template {Element} T
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
export function inside(parent, selector, kind) {
  const element = parent.querySelector(selector);
  if (!(element instanceof kind)) throw new Error(`${selector} is not a ${kind.name} of the page`);
  return element;
}

/**
 * A button of the page that does something when clicked.
 * @param {string} id
 * @param {() => void} action
 * @returns {HTMLButtonElement}
 */
export function onClick(id, action) {
  const button = byId(id, HTMLButtonElement);
  button.addEventListener("click", action);
  return button;
}

/**
 * Let an element read `text`. Where it does so already nothing is laid out and painted anew, though a frame asks for it.
 * @param {Element} element holds nothing but text
 * @param {string} text
 */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A copy of a template's only element.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function stamp(id) {
  const copy = byId(id, HTMLTemplateElement).content.firstElementChild?.cloneNode(true);
  if (!(copy instanceof HTMLElement)) throw new Error(`#${id} holds no element`);
  return copy;
}

/**
 * A coordinate as people read it: a sign, two decimals, a true minus.
 * @param {number} value
 */
export function signed(value) {
  const rounded = Math.abs(value) < 0.005 ? 0 : value;
  return (rounded < 0 ? "−" : "+") + Math.abs(rounded).toFixed(2);
}

/**
 * Let the person keep a file.
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // when the browser has surely begun to read it
}
