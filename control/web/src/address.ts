// Where a stream is found: the addresses of its outputs and of its ingest.

export type Via = 'hls' | 'flv' | 'ws' | 'rtc';

export const VIAS: readonly Via[] = ['hls', 'rtc', 'flv', 'ws'];

export const VIA_NAMES: Record<Via, string> = {
  hls: 'LL-HLS',
  flv: 'HTTP-FLV',
  ws: 'WebSocket-FLV',
  rtc: 'WebRTC',
};

/** What of `window.location` counts. */
export interface Place {
  protocol: string;
  host: string;
  hostname: string;
  /** May have the grant that the page was opened with, as `?token=`. */
  search: string;
}

const RTMP_PORT = 1935;

export function streamPath(app: string, name: string): string {
  return `${encodeURIComponent(app)}/${encodeURIComponent(name)}`;
}

export function isVia(value: unknown): value is Via {
  return VIAS.includes(value as Via);
}

/** The grant that the page was opened with. */
export function grant(place: Place): string | null {
  return new URLSearchParams(place.search).get('token') || null;
}

/** Where a player finds a stream, with the page's grant before the path: what a playlist names inherits it there. */
export function playUrl(place: Place, app: string, name: string, via: Via): string {
  const shown = grant(place);
  const path = `${shown ? `~${encodeURIComponent(shown)}/` : ''}${streamPath(app, name)}`;
  const secure = place.protocol === 'https:';
  switch (via) {
    case 'hls':
      return `${place.protocol}//${place.host}/${path}/index.m3u8`;
    case 'flv':
      return `${place.protocol}//${place.host}/${path}.flv`;
    case 'ws':
      return `${secure ? 'wss:' : 'ws:'}//${place.host}/${path}.flv`;
    case 'rtc':
      // A grant goes with the request, not into the address.
      return `${place.protocol}//${place.host}/${streamPath(app, name)}/whep`;
  }
}

/** Where a browser, or whoever else speaks WHIP, publishes. */
export function whipUrl(place: Place, app: string, name: string): string {
  return `${place.protocol}//${place.host}/${streamPath(app, name)}/whip`;
}

/** Where encoders reach the server: what it says itself, or this page's host. */
export function rtmpBase(place: Place, publishUrl: string | null | undefined, port: number = RTMP_PORT): string {
  if (publishUrl) return publishUrl.replace(/\/+$/, '');
  return `rtmp://${place.hostname}${port === RTMP_PORT ? '' : `:${port}`}`;
}

/** Where an RTMP player finds a stream. */
export function rtmpPlayUrl(place: Place, base: string, app: string, name: string): string {
  const shown = grant(place);
  return `${base}/${streamPath(app, name)}${shown ? `?token=${encodeURIComponent(shown)}` : ''}`;
}

/** A command that sends a file as a live stream. */
export function ffmpegCommand(base: string, app: string, name: string): string {
  const encode = '-c:v libx264 -preset veryfast -tune zerolatency -g 60 -pix_fmt yuv420p -c:a aac';
  return `ffmpeg -re -i video.mp4 ${encode} -f flv ${base}/${streamPath(app, name)}`;
}
