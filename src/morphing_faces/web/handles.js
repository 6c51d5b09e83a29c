/** Handles on the face: drag one, and the rest of the face follows; a click pins it; arrow keys move the one in focus. */

import { byId, inside, onClick } from "./dom.js";
import { NAMES, places } from "./grab.js";
import { newestOnly } from "./rest.js";
import { PULL_SETTLED, PULL_STEPS, say } from "./rules.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./face.js").Face} Face
 * @typedef {import("./grab.js").Grab} Grab
 * @typedef {import("./grab.js").Pair} Pair
 * @typedef {import("./photo-stage.js").PhotoStage} PhotoStage
 * @typedef {{index: number, hand: Pair, taken: Grab | null, done: boolean, dropped: boolean, undone: boolean, wake: () => void}} Drag
 *   `hand` is how far the hand is from where it took the handle, in pixels of the frame
 */

/** A handle can be taken from so far away, in CSS pixels. */
const REACH = { mouse: 20, touch: 34 };
/** Who moves less than this, in CSS pixels, clicks; who moves more drags. */
const CLICK = { mouse: 3, touch: 8 };
/** A finger that stays for so long, in ms, asks for the handles. */
const LONG_PRESS = 550;
/** A press of an arrow key pulls so far, in parts of the frame's side; with Shift, four times that. */
const KEY_STEP = 1 / 128;
/** How near to the picture's edge a handle is drawn that lies beyond it. */
const EDGE = 0.012;

export class Handles {
  #layer = byId("handles", HTMLElement);
  #line = inside(byId("handles", HTMLElement), "line", SVGLineElement);
  #button = onClick("grab", () => this.toggle());
  /** @type {HTMLButtonElement[]} */
  #dots;
  /** Where they are in the frame, in pixels. @type {Pair[]} */
  #places = [];
  /** The one that is lit. */
  #chosen = -1;
  /** Where a button or a finger went down. @type {{id: number, kind: "mouse" | "touch", index: number, x: number, y: number, long: boolean} | null} */
  #press = null;
  /** @type {Drag | null} */
  #drag = null;
  #place = newestOnly(() => this.#find());
  /** Where the handles are on a photograph that is as it was. @type {{view: object | null, places: Pair[]}} */
  #home = { view: null, places: [] };

  /**
   * @param {App} app
   * @param {Face} face forgets a press that has become a long one
   * @param {PhotoStage} stage where a photograph may stand in the place of the face
   */
  constructor(app, face, stage) {
    this.app = app;
    this.face = face;
    this.stage = stage;
    this.#dots = NAMES.map((name, index) => {
      const dot = Object.assign(document.createElement("button"), { type: "button", className: "handle" });
      dot.dataset.handle = name;
      dot.setAttribute("aria-label", `Handle: ${name.replaceAll("-", " ")}`);
      dot.addEventListener("focus", () => this.#choose(index));
      dot.addEventListener("click", () => this.#pin(index)); // by a key: pointers go to the layer
      return dot;
    });
    this.#layer.append(...this.#dots);
    app.on("bundle", () => this.#reset());
    app.on("model", () => this.#reset());
    app.on("change", () => this.#changed());
    app.on("picture", () => void (this.shown && this.#place()));
    const layer = this.#layer;
    layer.addEventListener("pointerdown", (event) => this.#down(event));
    layer.addEventListener("pointermove", (event) => this.#move(event));
    layer.addEventListener("pointerup", (event) => this.#up(event));
    layer.addEventListener("pointercancel", () => this.#release());
    layer.addEventListener("pointerleave", () => this.#press || this.#drag || this.#choose(-1));
    layer.addEventListener("contextmenu", (event) => event.preventDefault());
    layer.addEventListener("keydown", (event) => this.#key(event));
    layer.addEventListener("focusout", () => this.#release());
    document.addEventListener("keydown", (event) => this.#escape(event));
    this.#listenForLongPresses();
  }

  get shown() {
    return !this.#layer.hidden;
  }

  toggle() {
    if (this.shown) return this.hide();
    const { app } = this;
    if (!app.ready) return;
    if (!app.model.source) return void app.attempt(() => Promise.reject(new RangeError(say("no shape", { model: app.model.name }))));
    app.act((session) => session.endGesture()); // what is under the hand stays
    this.#layer.hidden = false;
    document.body.classList.add("handling");
    this.#button.setAttribute("aria-pressed", "true");
    this.#choose(-1);
    void this.#place();
    app.tell("Drag a handle, and the face follows. A click pins one; Esc leaves.");
  }

  hide() {
    if (!this.shown) return;
    this.#release();
    this.face.forget();
    if (this.#layer.contains(document.activeElement)) byId("face", HTMLCanvasElement).focus();
    this.#layer.hidden = true;
    this.#places = [];
    this.#layer.classList.remove("ready");
    document.body.classList.remove("handling");
    this.#button.setAttribute("aria-pressed", "false");
  }

  #reset() {
    if (this.#drag) this.#drop(this.#drag);
    this.hide();
    this.#button.hidden = this.app.manifest.shape === undefined;
  }

  // --- the hand

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0 || this.#press) return;
    this.#release();
    this.#begin(event, false);
  }

  /**
   * @param {PointerEvent} event
   * @param {boolean} long whether the finger has asked for the handles with it
   */
  #begin(event, long) {
    const kind = event.pointerType === "mouse" ? "mouse" : "touch";
    const index = this.#nearest(event.clientX, event.clientY, REACH[kind]);
    this.#choose(index);
    if (index < 0) return;
    this.#layer.setPointerCapture(event.pointerId);
    this.#press = { id: event.pointerId, kind, index, x: event.clientX, y: event.clientY, long };
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const press = this.#press;
    if (!press) {
      const byKey = this.#drag || this.#layer.contains(document.activeElement);
      const index = event.pointerType === "mouse" ? this.#nearest(event.clientX, event.clientY, REACH.mouse) : -1;
      if (index >= 0 || !byKey) this.#choose(index);
      return;
    }
    if (press.id !== event.pointerId) return;
    const [dx, dy] = [event.clientX - press.x, event.clientY - press.y];
    if (!this.#drag && Math.hypot(dx, dy) <= CLICK[press.kind]) return;
    const drag = this.#drag ?? this.#start(press.index);
    const side = this.#side;
    const { width, height } = this.#layer.getBoundingClientRect();
    const { view } = this.stage;
    const way = view ? view.wayInFrame(dx / width, dy / height) : { x: dx / width, y: dy / height };
    drag.hand = [way.x * side, way.y * side];
    drag.wake();
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const press = this.#press;
    if (!press || press.id !== event.pointerId) return;
    const dragged = this.#drag !== null;
    this.#release();
    if (!dragged && !press.long) this.#pin(press.index);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!step || this.#press || event.ctrlKey || event.altKey || event.metaKey) return;
    const index = this.#dots.findIndex((dot) => dot === event.target);
    if (index < 0) return;
    event.preventDefault();
    const going = this.#drag;
    if (going?.taken && going.taken.z !== this.app.session.z && !this.#pulling) this.#drop(going); // something else moved the face
    const drag = this.#drag ?? this.#start(index);
    const far = this.#side * KEY_STEP * (event.shiftKey ? 4 : 1);
    drag.hand = [drag.hand[0] + step[0] * far, drag.hand[1] + step[1] * far];
    drag.wake();
  }

  /** @param {KeyboardEvent} event */
  #escape(event) {
    if (event.key !== "Escape" || !this.shown || event.defaultPrevented || this.app.moving) return;
    if (document.querySelector("dialog[open]")) return;
    event.preventDefault();
    const drag = this.#press && this.#drag;
    if (!drag) return this.hide();
    this.#press = null;
    drag.undone = true;
    this.#drop(drag);
  }

  /** @param {number} index */
  #pin(index) {
    this.#release();
    void this.#last.then(() => {
      if (!this.app.alive) return;
      this.app.act((session) => session.pin(NAMES[index]));
      const pinned = this.app.session.pinned.has(NAMES[index]);
      this.app.tell(`${NAMES[index]} ${pinned ? "is pinned: it stays while others move." : "moves again."}`);
    });
  }

  /** Let go: the face goes on to where the hand was, and stays. */
  #release() {
    this.#press = null;
    const drag = this.#drag;
    if (!drag) return;
    this.#drag = null;
    drag.done = true;
    drag.wake();
  }

  /**
   * End a drag where it is.
   * @param {Drag} drag
   */
  #drop(drag) {
    drag.dropped = true;
    if (this.#drag === drag) this.#drag = null;
    drag.wake();
    this.#draw();
  }

  // --- the face follows

  /** Whether a drag has the face: in the hand, or let go and not yet settled. */
  #following = false;
  /** Whether a step is under way, during which the session may have the face that the step has not yet heard of. */
  #pulling = false;
  /** Settles when the newest drag has ended. @type {Promise<void>} */
  #last = Promise.resolve();
  /** The drag begun last. @type {Drag | null} */
  #newest = null;

  /**
   * Say whether the face is still on its way to where the hand was last; drags before the newest have no say.
   * @param {Drag} drag
   * @param {boolean} busy
   */
  #busy(drag, busy) {
    if (drag === this.#newest) this.#layer.ariaBusy = String(busy);
  }

  /**
   * @param {number} index
   * @returns {Drag}
   */
  #start(index) {
    const drag = { index, hand: /** @type {Pair} */ ([0, 0]), taken: null, done: false, dropped: false, undone: false, wake: () => undefined };
    if (!this.#following) this.app.act((session) => session.endGesture()); // what moves by itself ends; a drag that settles ends itself
    this.#drag = this.#newest = drag;
    this.#busy(drag, true);
    this.#last = this.#last // one that is let go settles first
      .then(() => this.app.attempt(() => this.#follow(drag)))
      .finally(() => this.#busy(drag, false));
    return drag;
  }

  /**
   * From taking a handle to letting it go: a step a frame while the hand moves or the face has not yet settled.
   * @param {Drag} drag
   */
  async #follow(drag) {
    const { app } = this;
    if (!app.ready || !app.model.source) return;
    const { session } = app;
    const { source } = app.model;
    this.#following = true;
    try {
      const taken = await session.take(source, NAMES[drag.index]);
      drag.taken = taken;
      for (let steps = 0; !drag.dropped; ) {
        const { hand } = drag;
        const [x, y] = hand;
        this.#pulling = true;
        await session.pull(taken, hand);
        this.#pulling = false;
        if (app.alive && session === app.session) app.change();
        if (this.shown) this.#put(taken.places);
        steps = x === drag.hand[0] && y === drag.hand[1] ? steps + 1 : 0;
        if (steps && (taken.change < PULL_SETTLED || steps >= PULL_STEPS)) {
          if (drag.done) break;
          this.#busy(drag, false);
          await new Promise((resolve) => (drag.wake = () => resolve(undefined)));
          this.#busy(drag, true);
          if (drag.done && hand === drag.hand) break;
          steps = 0;
        } else await new Promise(requestAnimationFrame);
      }
      if (!drag.dropped && session.z === taken.z) session.endGesture();
    } catch (error) {
      const changed = error instanceof RangeError && error.message === say("taken", {});
      if (!drag.dropped && !changed) throw error;
    } finally {
      this.#following = this.#pulling = false;
      if (drag.undone && drag.taken) session.cancelGesture("grab");
      if (app.alive) app.change();
      if (this.#drag === drag) this.#drag = this.#press = null; // the button may still be down: it has nothing in hand
      this.#draw();
    }
  }

  /** Something changed: a drag whose face is gone has ended. */
  #changed() {
    const drag = this.#drag;
    if (drag?.taken && !this.#pulling && drag.taken.z !== this.app.session.z) {
      this.#press = null;
      this.#drop(drag);
    }
    if (this.shown) this.#draw();
  }

  /** Ask where the handles of the face on the screen are. */
  async #find() {
    const { app } = this;
    const { pictured } = app;
    if (!app.ready || !pictured || !this.shown) return;
    const { source } = app.model;
    if (!source || this.#drag?.taken) return; // the drag knows
    await app.attempt(async () => {
      const shape = this.app.session.parts(pictured)[1] ?? pictured;
      const field = await source.fields(shape.slice(), 1);
      if (this.shown && app.ready && app.model.source && !this.#drag?.taken) this.#put(places(field, source));
    });
  }

  // --- what is seen

  get #side() {
    return this.app.manifest.image_shape[0];
  }

  /** @param {number} index */
  #choose(index) {
    if (index === this.#chosen) return;
    this.#chosen = index;
    this.#draw();
  }

  /** @param {Pair[]} found where the model's face has them */
  #put(found) {
    this.#places = found.map((place, k) => this.#onPicture(place, k));
    this.#draw();
  }

  /**
   * The place of a handle of the model's face as the picture has it: a photograph may go only a part of the face's way.
   * @param {Pair} place
   * @param {number} index
   * @returns {Pair}
   */
  #onPicture([x, y], index) {
    const { view } = this.stage;
    const { source } = this.app.model;
    if (!view || view.give === 1 || !source) return [x, y];
    if (this.#home.view !== view) this.#home = { view, places: places(view.own.field, source) };
    const [left, top] = this.#home.places[index];
    return [left + view.give * (x - left), top + view.give * (y - top)];
  }

  /**
   * A place of the frame in parts of the layer.
   * @param {Pair} place
   */
  #seen([x, y]) {
    const side = this.#side;
    const [u, v] = [(x + 0.5) / side, (y + 0.5) / side];
    return this.stage.view?.placeOf(u, v) ?? { x: u, y: v };
  }

  #draw() {
    if (!this.shown || !this.#places.length) return;
    const { pinned } = this.app.session;
    const taken = this.#drag?.taken;
    const behind = Boolean(taken?.behind);
    this.#dots.forEach((dot, k) => {
      const { x, y } = this.#seen(this.#places[k]);
      dot.style.left = `${(100 * clamp(x)).toFixed(3)}%`;
      dot.style.top = `${(100 * clamp(y)).toFixed(3)}%`;
      dot.classList.toggle("near", k === this.#chosen);
      dot.classList.toggle("behind", behind && k === taken?.index);
      dot.setAttribute("aria-pressed", String(pinned.has(NAMES[k])));
    });
    this.#layer.classList.add("ready");
    this.#line.style.visibility = behind ? "visible" : "hidden";
    if (!taken || !behind || !this.#drag) return;
    const [x, y] = this.#onPicture(taken.home, taken.index);
    const ends = [this.#seen(this.#places[taken.index]), this.#seen([x + this.#drag.hand[0], y + this.#drag.hand[1]])];
    ends.forEach(({ x, y }, k) => {
      this.#line.setAttribute(`x${k + 1}`, `${(100 * x).toFixed(2)}%`);
      this.#line.setAttribute(`y${k + 1}`, `${(100 * y).toFixed(2)}%`);
    });
  }

  /**
   * @param {number} x of the window, in CSS pixels
   * @param {number} y
   * @param {number} reach
   */
  #nearest(x, y, reach) {
    const box = this.#layer.getBoundingClientRect();
    let [best, least] = [-1, reach];
    this.#places.forEach((place, k) => {
      const at = this.#seen(place);
      const far = Math.hypot(box.left + clamp(at.x) * box.width - x, box.top + clamp(at.y) * box.height - y);
      if (far < least) [best, least] = [k, far];
    });
    return best;
  }

  // --- a finger that stays

  #listenForLongPresses() {
    const canvas = byId("face", HTMLCanvasElement);
    /** @type {{timer: ReturnType<typeof setTimeout>, x: number, y: number} | null} */
    let waits = null;
    const forget = () => {
      if (waits) clearTimeout(waits.timer);
      waits = null;
    };
    canvas.addEventListener("pointerdown", (event) => {
      forget();
      if (event.pointerType === "mouse" || !event.isPrimary || !this.app.ready || !this.app.model.source) return;
      const timer = setTimeout(() => {
        waits = null;
        this.face.forget();
        if (!this.shown) this.toggle();
        if (canvas.hasPointerCapture(event.pointerId)) canvas.releasePointerCapture(event.pointerId);
        void this.#place().then(() => canvas.isConnected && this.#touched.has(event.pointerId) && this.#begin(event, true));
      }, LONG_PRESS);
      waits = { timer, x: event.clientX, y: event.clientY };
      this.#touched.add(event.pointerId);
    });
    canvas.addEventListener("pointermove", ({ clientX, clientY }) => {
      if (waits && Math.hypot(clientX - waits.x, clientY - waits.y) > CLICK.touch) forget();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, forget);
      document.addEventListener(end, (event) => event instanceof PointerEvent && this.#touched.delete(event.pointerId));
    }
    canvas.addEventListener("contextmenu", (event) => (waits || this.shown) && event.preventDefault());
  }

  /** The fingers that are down. @type {Set<number>} */
  #touched = new Set();
}

/** @param {number} part */
function clamp(part) {
  return Math.min(Math.max(part, EDGE), 1 - EDGE);
}
