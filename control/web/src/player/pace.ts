// Staying close to the live edge without being seen to.

/** Playing this much faster or slower goes unnoticed. */
const FASTER = 1.08;
const SLOWER = 0.93;

/** Further behind than wanted by this much, the way back is a jump. */
const JUMP_S = 2.5;

/** Before the viewer has seen much, a jump costs nothing. */
const JUMP_AT_START_S = 0.5;

const FASTER_FROM_S = 0.3;
const NORMAL_FROM_S = 0.08;

/** Nearer than this part of the target, the next hiccup is a stall. */
const TOO_CLOSE = 0.8;

/** A connection that stutters is given more distance, up to a bound. */
const STALL_COSTS_S = 0.25;
const MOST_EXTRA_S = 2;

export interface Position {
  /** Seconds to the live edge; negative beyond it. */
  behind_s: number;
  /** How many are wanted. */
  target_s: number;
  /** The playback rate now. */
  rate: number;
  /** Playback has just begun. */
  starting: boolean;
}

export type Move = { jump: true } | { jump: false; rate: number };

/** What to do to come close to `target_s`. */
export function pace({ behind_s, target_s, rate, starting }: Position): Move {
  // Beyond the live edge nothing comes until the stream gets there.
  if (behind_s < 0) return { jump: true };
  const excess = behind_s - target_s;
  if (excess > (starting ? JUMP_AT_START_S : JUMP_S)) return { jump: true };
  if (excess > FASTER_FROM_S) return { jump: false, rate: FASTER };
  if (behind_s < target_s * TOO_CLOSE) return { jump: false, rate: SLOWER };
  if (rate > 1 && excess > NORMAL_FROM_S) return { jump: false, rate };
  if (rate < 1 && excess < 0) return { jump: false, rate };
  return { jump: false, rate: 1 };
}

/** How much more distance to keep after that many stalls, in seconds. */
export function extraAfter(stalls: number): number {
  return Math.min(MOST_EXTRA_S, stalls * STALL_COSTS_S);
}
