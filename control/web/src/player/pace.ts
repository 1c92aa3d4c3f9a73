// Staying close to the live edge without being seen to.

/** Playing this much faster or slower goes unnoticed. */
const FASTER = 1.08;
const SLOWER = 0.96;

/** Further behind than wanted by this much, the way back is a jump. */
const JUMP_S = 2.5;

/** Before the viewer has seen much, a jump costs nothing. */
const JUMP_AT_START_S = 0.5;

const FASTER_FROM_S = 0.35;
const NORMAL_FROM_S = 0.08;

/** How much buffer is kept at first, and at most when a connection stutters. */
const LEAST_TARGET_S = 0.7;
const MOST_TARGET_S = 2.5;
const STALL_COSTS_S = 0.25;

export interface Position {
  /** Seconds of media that are there but not yet played. */
  buffered_s: number;
  /** How many of them are wanted. */
  target_s: number;
  /** The playback rate now. */
  rate: number;
  /** Playback has just begun. */
  starting: boolean;
}

export type Move = { jump: true } | { jump: false; rate: number };

/** What to do to come close to `target_s` of buffer. */
export function pace({ buffered_s, target_s, rate, starting }: Position): Move {
  const excess = buffered_s - target_s;
  if (excess > (starting ? JUMP_AT_START_S : JUMP_S)) return { jump: true };
  if (excess > FASTER_FROM_S) return { jump: false, rate: FASTER };
  if (buffered_s < target_s / 2) return { jump: false, rate: SLOWER };
  if (rate > 1 && excess > NORMAL_FROM_S) return { jump: false, rate };
  if (rate < 1 && excess < 0) return { jump: false, rate };
  return { jump: false, rate: 1 };
}

/** How much buffer to keep after that many stalls. */
export function targetAfter(stalls: number): number {
  return Math.min(MOST_TARGET_S, LEAST_TARGET_S + stalls * STALL_COSTS_S);
}
