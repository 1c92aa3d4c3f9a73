// How old the picture is that a viewer sees.

import type { MediaClock } from '../api/types';

/** FLV timestamps are 32 bits wide. */
const WRAP_MS = 2 ** 32;

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
  let distance = (media_ms - clock.media_ms) % WRAP_MS;
  if (distance > WRAP_MS / 2) distance -= WRAP_MS;
  if (distance < -WRAP_MS / 2) distance += WRAP_MS;
  return clock.wall_ms + distance;
}

/** From when a frame came in (server's clock) to `now_ms` (ours), in ms. */
export function latencyMs(came_in_ms: number, now_ms: number, offset_ms: number): number {
  return now_ms + offset_ms - came_in_ms;
}
