// How old the picture is that a viewer sees.

import type { MediaClock } from '../api/types';

/** Timestamps of FLV, and of RTP, are 32 bits wide. */
const WRAP = 2 ** 32;

/** A question to the server about its time, in ms since 1970. */
export interface ClockSample {
  asked_ms: number;
  answered_ms: number;
  server_ms: number;
}

/** How far the server's clock is ahead of ours, in ms. The faster an answer, the less it can be wrong. */
export function offsetOf(samples: readonly ClockSample[]): number {
  let best: ClockSample | null = null;
  for (const sample of samples) {
    if (!best || sample.answered_ms - sample.asked_ms < best.answered_ms - best.asked_ms) best = sample;
  }
  return best ? best.server_ms - (best.asked_ms + best.answered_ms) / 2 : 0;
}

/**
 * When the frame with timestamp `media_ms` came in to the server, by the server's clock. `clock` ties
 * another frame's timestamp to that clock; both timestamps may have wrapped.
 */
export function cameInAt(media_ms: number, clock: MediaClock): number {
  let distance = (media_ms - clock.media_ms) % WRAP;
  if (distance > WRAP / 2) distance -= WRAP;
  if (distance < -WRAP / 2) distance += WRAP;
  return clock.wall_ms + distance;
}

/** RTP's clock of pictures: 90,000 ticks a second, 32 bits wide, which counts the same time as FLV's (RFC 6184 §8.2.1). */
const RTP_TICKS_PER_MS = 90;

/** When the picture with RTP timestamp `rtp` came in to the server, by the server's clock. */
export function cameInAtRtp(rtp: number, clock: MediaClock): number {
  let distance = (rtp - clock.media_ms * RTP_TICKS_PER_MS) % WRAP;
  if (distance > WRAP / 2) distance -= WRAP;
  if (distance < -WRAP / 2) distance += WRAP;
  return clock.wall_ms + distance / RTP_TICKS_PER_MS;
}

/**
 * From when a frame came in (server's clock) to `now_ms` (ours), in ms. A picture that is hardly older than the clocks are
 * known to be apart would seem to come from the future: it has no age that could be told.
 */
export function latencyMs(came_in_ms: number, now_ms: number, offset_ms: number): number {
  return Math.max(0, now_ms + offset_ms - came_in_ms);
}
