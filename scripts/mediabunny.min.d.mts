/** The part of mediabunny that the page uses; its own types name those of WebCodecs, which TypeScript has, too. */

export type VideoCodec = "avc" | "hevc" | "vp9" | "av1" | "vp8";
export interface Quality {
  readonly _: unique symbol;
}
export const QUALITY_HIGH: Quality;

export class BufferTarget {
  /** The file, once the output is finalized. */
  readonly buffer: ArrayBuffer | null;
}
export class Mp4OutputFormat {
  constructor(options?: { fastStart?: false | "in-memory" });
}
export class WebMOutputFormat {}

export class CanvasSource {
  constructor(canvas: HTMLCanvasElement, config: { codec: VideoCodec; quality: Quality; keyFrameInterval?: number });
  /** The canvas as it is now, as a frame; both times are in seconds. */
  add(timestamp: number, duration?: number): Promise<void>;
}
export class Output {
  constructor(options: { format: Mp4OutputFormat | WebMOutputFormat; target: BufferTarget });
  addVideoTrack(source: CanvasSource, metadata?: { frameRate?: number }): void;
  setMetadataTags(tags: { title?: string; comment?: string }): void;
  start(): Promise<void>;
  finalize(): Promise<void>;
  cancel(): Promise<void>;
}

/** The first of the codecs that this browser encodes pictures of this size with, or null. */
export function getFirstEncodableVideoCodec(
  codecs: VideoCodec[],
  options?: { width?: number; height?: number; quality?: Quality },
): Promise<VideoCodec | null>;
