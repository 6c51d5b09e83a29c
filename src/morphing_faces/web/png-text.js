/** Words inside a PNG file: its tEXt chunks (PNG specification, section 11.3.4.3). */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
/** Of a chunk beside its data: length, type, checksum. */
const FRAME = 12;
/** The table of CRC-32 (polynomial 0xEDB88320). */
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/**
 * A PNG with a word of its own, right after its header.
 * @param {Blob} png
 * @param {string} keyword 1 to 79 letters of ASCII
 * @param {string} text ASCII
 * @returns {Promise<Blob>}
 */
export async function withText(png, keyword, text) {
  const bytes = new Uint8Array(await png.arrayBuffer());
  const header = SIGNATURE.length + FRAME + new DataView(bytes.buffer).getUint32(SIGNATURE.length);
  const data = new TextEncoder().encode(`tEXt${keyword}\0${text}`);
  const chunk = new Uint8Array(data.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length - 4);
  chunk.set(data, 4);
  view.setUint32(data.length + 4, crc(data));
  return new Blob([bytes.subarray(0, header), chunk, bytes.subarray(header)], { type: "image/png" });
}

/**
 * The text of a keyword in a PNG, or null where there is none, or the file is no whole PNG.
 * @param {Blob} file
 * @param {string} keyword
 * @returns {Promise<string | null>}
 */
export async function textOf(file, keyword) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (SIGNATURE.some((byte, k) => bytes[k] !== byte)) return null;
  const view = new DataView(bytes.buffer);
  const letters = new TextDecoder("latin1");
  for (let at = SIGNATURE.length; at + FRAME <= bytes.length; ) {
    const length = view.getUint32(at);
    if (at + FRAME + length > bytes.length) return null;
    const chunk = bytes.subarray(at + 4, at + 8 + length);
    const [type, data] = [letters.decode(chunk.subarray(0, 4)), chunk.subarray(4)];
    const end = data.indexOf(0);
    if (type === "tEXt" && letters.decode(data.subarray(0, end)) === keyword && view.getUint32(at + 8 + length) === crc(chunk)) {
      return letters.decode(data.subarray(end + 1));
    }
    at += FRAME + length;
  }
  return null;
}

/** @param {Uint8Array} bytes */
function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
