// What a publisher sends, from two looks at its counters.

/** Counters since the connection began, and what holds at the moment. */
export interface Counters {
  at_ms: number;
  bytes: number;
  packets: number;
  resent: number;
  frames: number;
  /** Packets that the server has missed. */
  lost: number;
  keyframes: number;
  width: number;
  height: number;
  rtt_ms: number | null;
  /** As `video/H264`. */
  codec: string | null;
  /** What keeps the picture from being better: `cpu`, `bandwidth` or `other`. */
  limited: string | null;
}

export interface Statistics {
  bitrate_bps: number;
  fps: number;
  /** Of the packets sent lately, the part that was lost, 0 to 1. */
  loss: number;
  /** Packets that were sent again since the connection began. */
  resent: number;
  frames: number;
  keyframes: number;
  width: number;
  height: number;
  rtt_ms: number | null;
  codec: string | null;
  limited: string | null;
}

export function difference(before: Counters | null, now: Counters): Statistics {
  const since = (counter: 'bytes' | 'packets' | 'frames' | 'lost') => Math.max(0, now[counter] - (before?.[counter] ?? 0));
  const seconds = before ? (now.at_ms - before.at_ms) / 1000 : 0;
  const rate = (amount: number) => (seconds > 0 ? amount / seconds : 0);
  const { resent, frames, keyframes, width, height, rtt_ms, codec, limited } = now;
  return {
    bitrate_bps: rate(since('bytes') * 8),
    fps: rate(since('frames')),
    loss: Math.min(1, since('lost') / Math.max(1, since('packets'))),
    resent, frames, keyframes, width, height, rtt_ms, codec, limited,
  };
}
