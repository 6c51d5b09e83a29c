/** The part of gifenc that the page uses; the package comes without types. */

/** Colours of three numbers from 0 to 255. */
export type Palette = [number, number, number][];
export type PixelFormat = "rgb565" | "rgb444" | "rgba4444";

export interface Frame {
  palette?: Palette;
  /** Milliseconds that the frame stays. */
  delay?: number;
  /** -1: once, 0: for ever; of the first frame. */
  repeat?: number;
  first?: boolean;
  transparent?: boolean;
  transparentIndex?: number;
  dispose?: number;
}

export interface Encoder {
  writeFrame(index: Uint8Array, width: number, height: number, options?: Frame): void;
  finish(): void;
  bytes(): Uint8Array<ArrayBuffer>;
  bytesView(): Uint8Array<ArrayBuffer>;
  reset(): void;
}

export function GIFEncoder(options?: { auto?: boolean; initialCapacity?: number }): Encoder;
export function quantize(
  rgba: Uint8Array | Uint8ClampedArray,
  maxColors: number,
  options?: { format?: PixelFormat; oneBitAlpha?: boolean | number; clearAlpha?: boolean },
): Palette;
export function applyPalette(
  rgba: Uint8Array | Uint8ClampedArray,
  palette: Palette,
  format?: PixelFormat,
): Uint8Array<ArrayBuffer>;
