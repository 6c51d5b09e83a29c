/** The evidence lower bound (ELBO) of one picture, and what it is made of. Pure arithmetic, in nats. */

/**
 * @typedef {{mean: Float32Array<ArrayBuffer>, std: Float32Array<ArrayBuffer>}} Posterior
 * @typedef {import("./worker.js").Manifest} Manifest
 */

const LOG_2_PI = Math.log(2 * Math.PI);

/**
 * KL of N(mean, std^2) from N(0, 1), in nats: 1/2 (mean^2 + std^2 - 1 - ln std^2).
 * @param {number} mean
 * @param {number} std
 */
export function divergence(mean, std) {
  return (mean * mean + std * std - 1 - Math.log(std * std)) / 2;
}

/**
 * KL of each dimension.
 * @param {Posterior} posterior
 */
export function divergences({ mean, std }) {
  return Array.from(mean, (value, k) => divergence(value, std[k]));
}

/** @param {readonly number[]} values */
export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * The posterior on its way to the prior: its means shrink to 0, its standard deviations grow to 1, evenly in their logarithm.
 * @param {Posterior} posterior
 * @param {number} pull from 0, what the encoder says, to 1, the prior N(0, 1)
 * @returns {Posterior}
 */
export function pulled({ mean, std }, pull) {
  return { mean: mean.map((value) => (1 - pull) * value), std: std.map((value) => value ** (1 - pull)) };
}

/**
 * A code drawn from the posterior: mean + amount * std * noise.
 * @param {Posterior} posterior
 * @param {Float32Array} noise standard normal
 * @param {number} [amount] of the noise; 1 draws from the posterior itself
 * @returns {Float32Array<ArrayBuffer>}
 */
export function drawn({ mean, std }, noise, amount = 1) {
  return mean.map((value, k) => value + amount * std[k] * noise[k]);
}

/**
 * The sum of the squared differences of two pictures with values in [0, 1].
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
export function squaredError(a, b) {
  let total = 0;
  for (let k = 0; k < a.length; k++) total += (a[k] - b[k]) ** 2;
  return total;
}

/**
 * ln p(x|z) in nats, x ~ N(decoder(z), sigma^2 I): a density, so it may be above 0.
 * @param {number} error the sum of squared differences of x and decoder(z)
 * @param {number} sigma
 * @param {number} count of the values in a picture
 */
export function logLikelihood(error, sigma, count) {
  return -(error / (sigma * sigma) + count * (2 * Math.log(sigma) + LOG_2_PI)) / 2;
}

/**
 * The peak signal-to-noise ratio of two pictures with values in [0, 1], in dB.
 * @param {number} error the sum of squared differences
 * @param {number} count
 */
export function decibels(error, count) {
  return -10 * Math.log10(Math.max(error / count, 1e-10));
}

/**
 * The standard deviation of a pixel's value around the decoder's, as it was measured on photographs; null where the
 * bundle does not say.
 * @param {Manifest} manifest
 * @returns {number | null}
 */
export function pixelSigma({ figures }) {
  const measured = figures?.evaluation?.sigma;
  if (measured > 0) return measured;
  const error = figures?.["held_out/mse"];
  return error > 0 ? Math.sqrt(error) : null; // the value of sigma that makes such errors most likely
}
