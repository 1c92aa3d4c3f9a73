// What the player tells to tests that drive a browser, as `window.__weir.stats()`.

import type { Readings } from '../player/session';
import type { View } from '../player/state';

/** A session's readings and what the viewer is told. */
export interface Measured extends Omit<Readings, 'playback'> {
  state: View;
}
