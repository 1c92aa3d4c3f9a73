// The last minute of every stream's bitrate, for as long as it is live.

import type { Stream } from '../api/types';

/** A minute, at a value every two seconds. */
export const HISTORY_LENGTH = 30;

/** By `app/name`, oldest first. */
export type History = Map<string, number[]>;

export function remember(history: History, streams: readonly Stream[]): void {
  const live = new Set<string>();
  for (const stream of streams) {
    const key = `${stream.app}/${stream.name}`;
    live.add(key);
    history.set(key, [...(history.get(key) ?? []), stream.bitrate_bps].slice(-HISTORY_LENGTH));
  }
  for (const key of history.keys()) if (!live.has(key)) history.delete(key);
}
