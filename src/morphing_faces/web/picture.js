/** Decoded pictures on canvases: smooth at every size. */

/**
 * @typedef {Uint8ClampedArray<ArrayBuffer>} Pixels RGBA, height * width * 4
 * @typedef {[number, number, number]} Shape height, width, channels
 * @typedef {{draw: (canvas: HTMLCanvasElement) => void, detail: number, grey: boolean}} Shown a picture that is drawn later:
 *   `draw` fills a canvas of any size; more than `detail` pixels of height show nothing more; `grey` has no colours
 */

/** Where a picture waits at its own size; one is enough, drawing is synchronous. @type {HTMLCanvasElement | undefined} */
let workbench;

/**
 * Fill a canvas, or a box of it, with a picture, scaled smoothly.
 * @param {HTMLCanvasElement} canvas
 * @param {Pixels} pixels
 * @param {Shape} shape
 * @param {[number, number, number, number]} [box] left, top, width, height
 */
export function paint(canvas, pixels, [height, width], box = [0, 0, canvas.width, canvas.height]) {
  workbench ??= document.createElement("canvas");
  if (workbench.width !== width || workbench.height !== height) Object.assign(workbench, { width, height });
  context(workbench).putImageData(new ImageData(pixels, width, height), 0, 0);
  const target = context(canvas);
  target.imageSmoothingEnabled = true;
  target.imageSmoothingQuality = "high"; // cubic when enlarging: a 48-pixel face looks soft, not like tiles
  target.drawImage(workbench, ...box);
}

/**
 * A decoded picture that is drawn later.
 * @param {Pixels} pixels
 * @param {Shape} shape
 * @returns {Shown}
 */
export function shown(pixels, shape) {
  return { draw: (canvas) => paint(canvas, pixels, shape), detail: shape[0], grey: shape[2] === 1 };
}

/**
 * A picture as a PNG file of `size` pixels.
 * @param {Pixels} pixels
 * @param {Shape} shape
 * @param {number} size of its height
 * @returns {Promise<Blob>}
 */
export function png(pixels, shape, size) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.round((size * shape[1]) / shape[0]), height: size });
  paint(canvas, pixels, shape);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("This browser could not write a PNG."))));
  });
}

/**
 * A decoded picture as the encoder reads it.
 * @param {Pixels} pixels
 * @param {Shape} shape
 * @returns {Float32Array<ArrayBuffer>} height * width * channels in [0, 1]
 */
export function toInput(pixels, [height, width, channels]) {
  const values = new Float32Array(height * width * channels);
  for (let k = 0; k < height * width; k++) {
    const [red, green, blue] = [pixels[4 * k], pixels[4 * k + 1], pixels[4 * k + 2]];
    if (channels === 1) values[k] = luma(red, green, blue) / 255;
    else values.set([red / 255, green / 255, blue / 255], 3 * k);
  }
  return values;
}

/**
 * ITU-R 601-2 luma in Pillow's fixed point, so that a grey picture is the same here and in Python.
 * @param {number} red 0 to 255
 * @param {number} green
 * @param {number} blue
 */
export function luma(red, green, blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export function context(canvas, settings) {
  const found = canvas.getContext("2d", settings);
  if (!found) throw new Error("This browser cannot draw on a canvas. Use a current Chrome, Edge, Firefox or Safari.");
  return found;
}
