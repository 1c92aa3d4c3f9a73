// When to try again.

const FIRST_MS = 400;
const MOST_MS = 5000;

/**
 * How long to wait before the `attempt`th retry (counted from 0), in ms. `chance` in [0, 1) spreads
 * viewers that lost the same stream at once.
 */
export function retryDelayMs(attempt: number, chance: number = Math.random()): number {
  const full = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full * (0.75 + 0.5 * chance));
}
