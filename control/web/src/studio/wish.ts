// What a publisher chooses.

import type { Format, Source } from './sources';

export interface Wish {
  app: string;
  name: string;
  /** A publish key or a grant; empty for none. */
  key: string;
  source: Source;
  format: FormatName;
  /** As `video/H264`. */
  codec: string;
  bitrate_kbps: number;
  microphone: boolean;
}

export const FORMATS = {
  '360p30': { width: 640, height: 360, fps: 30 },
  '720p30': { width: 1280, height: 720, fps: 30 },
  '1080p30': { width: 1920, height: 1080, fps: 30 },
  '1080p60': { width: 1920, height: 1080, fps: 60 },
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof FORMATS;

export const BITRATES_KBPS: readonly number[] = [500, 1000, 2500, 4000, 6000, 10_000];
