/// <reference types="vite/client" />

import type { Measured } from './watch/measured';

declare global {
  interface Window {
    /** For tests that drive a browser: what the player on this page measures. */
    __weir?: { stats(): Measured };
  }
}
