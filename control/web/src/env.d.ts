/// <reference types="vite/client" />

import type { Phase } from './studio/publisher';
import type { Statistics } from './studio/statistics';
import type { Measured } from './watch/measured';

declare global {
  interface Window {
    /** For tests that drive a browser: what the player on this page measures. */
    __weir?: { stats(): Measured };
    /** The same for the studio. */
    __weirStudio?: { stats(): Partial<Statistics> & { phase: Phase; why: string | null } };
  }
}
