// Quantities as people read them.

import type { Track, Viewers } from './api/types';

export const NONE = '–';

function scaled(value: number, units: readonly string[], base: number): string {
  let unit = 0;
  let rest = value;
  // 999.5 would be rounded to a fourth digit.
  while (rest >= base - 0.5 && unit < units.length - 1) {
    rest /= base;
    unit += 1;
  }
  const digits = unit === 0 || rest >= 100 ? 0 : rest >= 10 ? 1 : 2;
  return `${rest.toFixed(digits)} ${units[unit]}`;
}

export function bitrate(bps: number): string {
  return scaled(bps, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s'], 1000);
}

export function bytes(count: number): string {
  return scaled(count, ['B', 'KB', 'MB', 'GB', 'TB'], 1000);
}

/** `42 s`, `3 min 07 s`, `2 h 05 min`, `3 d 4 h`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, '0');
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** `0.84 s` */
export function latency(ms: number | null): string {
  return ms === null ? NONE : `${(ms / 1000).toFixed(2)} s`;
}

/** `29.97`, `30`. */
export function frameRate(fps: number): string {
  return String(Math.round(fps * 100) / 100);
}

export function count(n: number): string {
  return n.toLocaleString('en');
}

export function viewers(v: Viewers): number {
  return v.flv + v.ws_flv + v.rtmp + v.hls + v.ts + v.srt;
}

/** The viewers by protocol, of the protocols that have some. */
export function viewersByProtocol(v: Viewers): { name: string; count: number }[] {
  const all = [
    { name: 'LL-HLS', count: v.hls },
    { name: 'HTTP-FLV', count: v.flv },
    { name: 'WS-FLV', count: v.ws_flv },
    { name: 'RTMP', count: v.rtmp },
    { name: 'MPEG-TS', count: v.ts },
    { name: 'SRT', count: v.srt },
  ];
  return all.filter((protocol) => protocol.count > 0);
}

/** The encoder's name for people: many say the library they are made with. */
export function encoder(name: string | null): string {
  if (!name) return 'an unnamed encoder';
  const obs = /^obs-output module \(libobs version ([^)]+)\)$/.exec(name);
  if (obs) return `OBS ${obs[1]}`;
  const lavf = /^Lavf([\d.]+)$/.exec(name);
  return lavf ? `ffmpeg (Lavf ${lavf[1]})` : name;
}

/** `H.264 1280×720`, `AAC 48 kHz stereo`. */
export function track(t: Track): string {
  const parts = [t.codec];
  if (t.width && t.height) parts.push(`${t.width}×${t.height}`);
  if (t.sample_rate) parts.push(`${t.sample_rate / 1000} kHz`);
  if (t.channels) parts.push(t.channels === 1 ? 'mono' : t.channels === 2 ? 'stereo' : `${t.channels} ch`);
  return parts.join(' ');
}
