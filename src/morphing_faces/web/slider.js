/** Sliders that a finger can scroll past: what it sets counts when it has moved along, or was lifted, not when it scrolls. */

/** A finger that moves less than this along the slider, in CSS pixels, may yet scroll. */
const ALONG = 8;

/**
 * @param {HTMLInputElement} slider
 * @param {(value: number) => void} slide with each value
 * @param {() => void} [done] when the hand lets go
 */
export function onSlide(slider, slide, done) {
  /** Where a finger is, and what was there before it. @type {{x: number, value: string, along: boolean} | null} */
  let finger = null;
  slider.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse") finger = { x: event.clientX, value: slider.dataset.value ?? slider.value, along: false };
  });
  slider.addEventListener("pointermove", (event) => {
    if (!finger || finger.along || Math.abs(event.clientX - finger.x) < ALONG) return;
    finger.along = true;
    slide(slider.valueAsNumber);
  });
  slider.addEventListener("pointerup", () => {
    const tapped = finger && !finger.along && slider.value !== finger.value;
    finger = null;
    if (tapped) slide(slider.valueAsNumber);
  });
  slider.addEventListener("pointercancel", () => {
    if (!finger) return;
    const { value, along } = finger;
    finger = null;
    slider.value = value;
    if (along) slide(slider.valueAsNumber);
  });
  slider.addEventListener("input", () => {
    if (!finger || finger.along) slide(slider.valueAsNumber);
  });
  slider.addEventListener("change", () => done?.());
}

/**
 * Show a value, unless a finger is about to set another.
 * @param {HTMLInputElement} slider
 * @param {number} value
 */
export function showValue(slider, value) {
  slider.value = slider.dataset.value = String(value);
}
