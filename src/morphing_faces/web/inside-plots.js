/** What "What is a VAE?" draws: codes, ranges, the KL of each dimension, and the two terms of the ELBO. */

import { plain, horizontalAxis, line, linear, logarithmic, verticalAxis } from "./plot.js";
import { signed } from "./dom.js";

/**
 * @typedef {import("./plot.js").Pen} Pen
 * @typedef {import("./plot.js").Mark} Mark
 * @typedef {{name: string, mean: number, std: number, kl: number, average: number | null, chosen: boolean}} Coordinate
 *   a dimension that has a slider, as this picture's posterior has it; `chosen`: it is one of the two axes
 * @typedef {{pull: number, error: number, kl: number}} Price of a picture told by codes pulled to the prior, both in nats
 */

/** Room for the numbers at the left. */
const LEFT = 34;
/** Means beyond this are drawn at the edge. */
const REACH = 3.5;
/** Standard deviations that the strip of sigmas reaches from and to. */
const SIGMAS = /** @type {const} */ ([0.01, 1.5]);
/** The density of a normal distribution, 1 at its peak: standard deviations from the mean, level. */
const BELL = Array.from({ length: 65 }, (_, k) => [k / 8 - 4, Math.exp(-((k / 8 - 4) ** 2) / 2)]);

/**
 * Above, mean and mean +- std of each dimension before the prior; below, the standard deviations on a logarithmic axis.
 * @param {Pen} pen
 * @param {Coordinate[]} coordinates
 * @param {number | null} pointed
 * @returns {Mark[]}
 */
export function paintCodes(pen, coordinates, pointed) {
  const { c, ink, width, height } = pen;
  const split = Math.round(height * 0.6);
  const mean = linear([-REACH, REACH], [split - 6, 18]);
  const std = logarithmic(SIGMAS, [height - 22, split + 30]);
  const [step, x] = columns(width, coordinates.length);
  c.fillStyle = ink.wash;
  c.fillRect(LEFT, mean(1), width - LEFT, mean(-1) - mean(1));
  verticalAxis(pen, { scale: mean, ticks: [-3, -1, 0, 1, 3], name: "μ; shaded, the prior 0 ± 1", left: LEFT, right: width, top: 0 });
  verticalAxis(pen, { scale: std, ticks: [0.01, 0.1, 1], name: "σ; the prior's is 1", left: LEFT, right: width, top: split + 8 });
  numbers(pen, coordinates.length, x, height - 14);
  coordinates.forEach((coordinate, k) => {
    const colour = coordinate.chosen || k === pointed ? ink.accent : ink.ink;
    c.fillStyle = c.strokeStyle = colour;
    if (k === pointed) column(pen, x(k), step, 16, height - 18);
    c.fillStyle = c.strokeStyle = colour;
    c.lineWidth = 2;
    line(c, x(k), mean(coordinate.mean - coordinate.std), x(k), mean(coordinate.mean + coordinate.std));
    disc(c, x(k), mean(coordinate.mean), Math.min(step * 0.32, 4));
    disc(c, x(k), std(coordinate.std), Math.min(step * 0.25, 3));
    c.lineWidth = 1;
    line(c, x(k), std(1), x(k), std(coordinate.std));
  });
  return coordinates.map(({ name, mean: mu, std: sigma }, k) => ({
    box: [x(k) - step / 2, 0, step, height],
    words: `${name}: μ ${signed(mu)}, σ ${sigma.toFixed(3)}`,
    dimension: k,
  }));
}

/**
 * For each of two coordinates the prior and the posterior on one axis, and below it the posterior under a lens.
 * @param {Pen} pen
 * @param {Coordinate[]} coordinates
 * @param {{dimension: number, draws: number[]}[]} shown which of them, and the values of z that were drawn
 * @returns {Mark[]}
 */
export function paintRanges(pen, coordinates, shown) {
  const { c, ink, width, height } = pen;
  const tall = height / shown.length;
  const x = linear([-REACH, REACH], [8, width - 8]);
  /** @type {Mark[]} */
  const marks = [];
  shown.forEach(({ dimension, draws }, k) => {
    const { name, mean, std } = coordinates[dimension];
    const top = k * tall;
    const base = top + tall * 0.47;
    const up = base - top - 18;
    c.fillStyle = ink.ink;
    c.textAlign = "left";
    c.textBaseline = "top";
    c.fillText(name, 0, top);
    c.fillStyle = ink.faint;
    c.textAlign = "right";
    c.fillText(`μ ${signed(mean)}   σ ${std.toFixed(3)}`, width, top);
    curve(pen, x, base, up, 0, 1, "prior");
    curve(pen, x, base, up, mean, std, "posterior");
    axis(pen, base, x, [-3, -2, -1, 0, 1, 2, 3]);

    // The lens: five standard deviations to each side.
    const floor = top + tall - 22;
    const near = linear([mean - 5 * std, mean + 5 * std], [8, width - 8]);
    c.strokeStyle = ink.line;
    c.lineWidth = 1;
    line(c, x(mean - 5 * std), base, 8, floor - up + 8);
    line(c, x(mean + 5 * std), base, width - 8, floor - up + 8);
    curve(pen, near, floor, up - 8, mean, std, "posterior");
    axis(pen, floor, near, [-2, 0, 2].map((at) => mean + at * std), (value) => signed(value));
    c.strokeStyle = ink.accent;
    c.lineWidth = 1.5;
    for (const draw of draws) {
      c.beginPath();
      c.arc(near(draw), floor, 4, 0, 2 * Math.PI);
      c.stroke();
    }
    marks.push({
      box: [0, top, width, tall],
      words: `${name}: the picture leaves ${signed(mean)} ± ${std.toFixed(3)} of 0 ± 1, ${Math.round(1 / std)} times narrower`,
      dimension,
    });
  });
  return marks;
}

/**
 * The KL of each dimension: bars, of this picture; lines, on average, where that was measured.
 * @param {Pen} pen
 * @param {Coordinate[]} coordinates
 * @param {number | null} pointed
 * @returns {Mark[]}
 */
export function paintInformation(pen, coordinates, pointed) {
  const { c, ink, width, height } = pen;
  const most = Math.ceil(Math.max(4, ...coordinates.map(({ kl, average }) => Math.max(kl, average ?? 0))));
  const y = linear([0, most], [height - 18, 20]);
  const [step, x] = columns(width, coordinates.length);
  const ticks = Array.from({ length: 5 }, (_, k) => (k * most) / 4).filter((tick) => Number.isInteger(tick));
  verticalAxis(pen, { scale: y, ticks, name: coordinates[0]?.average === null ? "KL in nats" : "KL in nats; lines, the average", left: LEFT, right: width, top: 0 });
  numbers(pen, coordinates.length, x, height - 14);
  coordinates.forEach(({ kl, average, chosen }, k) => {
    if (k === pointed) column(pen, x(k), step, 16, height - 18);
    c.fillStyle = chosen || k === pointed ? ink.accent : ink.edge;
    c.fillRect(x(k) - step * 0.35, y(kl), step * 0.7, y(0) - y(kl));
    c.strokeStyle = ink.ink;
    c.lineWidth = 2;
    if (average !== null) line(c, x(k) - step * 0.45, y(average), x(k) + step * 0.45, y(average));
  });
  return coordinates.map(({ name, kl, average }, k) => ({
    box: [x(k) - step / 2, 0, step, height],
    words: `${name}: ${kl.toFixed(2)} nats here${average === null ? "" : `, ${average.toFixed(2)} on average`}`,
    dimension: k,
  }));
}

/**
 * What a picture costs when its codes are pulled to the prior: the error of the reconstruction, the KL, and both together.
 * @param {Pen} pen
 * @param {Price[]} prices by rising pull
 * @param {number} pull where the slider stands
 * @returns {Mark[]}
 */
export function paintBalance(pen, prices, pull) {
  const { c, ink, width, height } = pen;
  const totals = prices.map(({ error, kl }) => error + kl);
  const most = 10 ** Math.ceil(Math.log10(Math.max(...totals, 100)));
  const y = logarithmic([10, most], [height - 36, 20]);
  const x = linear([0, 1], [LEFT + 8, width - 8]);
  const ticks = [10, 100, 1000, 1e4, 1e5, 1e6, 1e7].filter((tick) => tick <= most);
  const words = (/** @type {number} */ value) => value < 1000 ? plain(value) : value < 1e6 ? `${value / 1000}k` : `${value / 1e6}M`;
  verticalAxis(pen, { scale: y, ticks, name: "price in nats", left: LEFT, right: width, top: 0, words });
  horizontalAxis(pen, { scale: x, ticks: [0, 0.5, 1], name: "pull to the prior", y: height - 36 });
  /** @type {[string, (price: Price) => number, string, number[]][]} */
  const lines = [
    ["error", ({ error }) => error, ink.ink, [5, 3]],
    ["KL", ({ kl }) => kl, ink.ink, [1, 3]],
    ["together", ({ error, kl }) => error + kl, ink.accent, []],
  ];
  for (const [, value, colour, dash] of lines) {
    c.strokeStyle = colour;
    c.lineWidth = 2;
    c.setLineDash(dash);
    c.beginPath();
    for (const price of prices) c.lineTo(x(price.pull), y(value(price)));
    c.stroke();
  }
  c.setLineDash([]);
  c.textBaseline = "bottom";
  c.fillStyle = ink.ink;
  const middle = prices[prices.length >> 1];
  if (middle) {
    c.textAlign = "left";
    c.fillText("KL", x(middle.pull) + 4, y(middle.kl) - 3);
    c.fillText("error", x(prices[1].pull), y(prices[1].error) + 16);
    c.textAlign = "right";
    c.fillStyle = ink.accent;
    c.fillText("together", x(middle.pull) - 4, y(middle.error + middle.kl) - 4);
  }
  c.strokeStyle = ink.accent;
  c.lineWidth = 1;
  line(c, x(pull), y(most), x(pull), y(10));
  return [];
}

/**
 * A column for each dimension.
 * @param {number} width
 * @param {number} count
 * @returns {[number, (dimension: number) => number]} its width, its middle
 */
function columns(width, count) {
  const step = (width - LEFT) / count;
  return [step, (dimension) => LEFT + step * (dimension + 0.5)];
}

/**
 * @param {Pen} pen
 * @param {number} count
 * @param {(dimension: number) => number} x
 * @param {number} top
 */
function numbers({ c, ink }, count, x, top) {
  c.fillStyle = ink.faint;
  c.textAlign = "center";
  c.textBaseline = "top";
  for (let k = 0; k < count; k += 4) c.fillText(String(k), x(k), top);
}

/**
 * The column that is pointed at.
 * @param {Pen} pen
 * @param {number} x
 * @param {number} step
 * @param {number} top
 * @param {number} bottom
 */
function column({ c, ink }, x, step, top, bottom) {
  c.fillStyle = ink.wash;
  c.fillRect(x - step / 2, top, step, bottom - top);
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {number} x
 * @param {number} y
 * @param {number} radius
 */
function disc(c, x, y, radius) {
  c.beginPath();
  c.arc(x, y, radius, 0, 2 * Math.PI);
  c.fill();
}

/**
 * @param {Pen} pen
 * @param {import("./plot.js").Scale} x
 * @param {number} base
 * @param {number} up
 * @param {number} mean
 * @param {number} std
 * @param {"prior" | "posterior"} kind
 */
function curve({ c, ink }, x, base, up, mean, std, kind) {
  c.beginPath();
  for (const [at, level] of BELL) c.lineTo(x(mean + std * at), base - up * level);
  c.lineWidth = 1.5;
  c.strokeStyle = kind === "prior" ? ink.faint : ink.accent;
  c.setLineDash(kind === "prior" ? [4, 4] : []);
  c.fillStyle = ink.wash;
  if (kind === "posterior") c.fill();
  c.stroke();
  c.setLineDash([]);
}

/**
 * @param {Pen} pen
 * @param {number} y
 * @param {import("./plot.js").Scale} x
 * @param {number[]} ticks
 * @param {(value: number) => string} [words]
 */
function axis({ c, ink, width }, y, x, ticks, words = plain) {
  c.strokeStyle = ink.edge;
  c.lineWidth = 1;
  line(c, 0, y, width, y);
  c.fillStyle = ink.faint;
  c.textBaseline = "top";
  c.textAlign = "center";
  for (const tick of ticks) c.fillText(words(tick), Math.min(Math.max(x(tick), 10), width - 10), y + 4);
}
