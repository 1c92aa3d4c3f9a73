// What the API says (its OpenAPI document is at /api/v1/openapi.json).

export interface Viewers {
  flv: number;
  ws_flv: number;
  rtmp: number;
  hls: number;
  ts: number;
  srt: number;
}

export interface Track {
  id: string;
  codec: string;
  rfc6381: string;
  width: number | null;
  height: number | null;
  sample_rate: number | null;
  channels: number | null;
}

/** A moment at which a frame came in: its timestamp and the server's wall clock. */
export interface MediaClock {
  media_ms: number;
  wall_ms: number;
}

export interface Stream {
  app: string;
  name: string;
  state: 'live' | 'interrupted';
  epoch: number;
  started_at_ms: number;
  publisher: { protocol: string; remote_addr: string | null; encoder: string | null };
  tracks: Track[];
  bitrate_bps: number;
  frame_rate: number;
  keyframe_interval_ms: number | null;
  bytes_in: number;
  viewers: Viewers;
  hls: { ready: boolean; problem: string | null };
  clock: MediaClock | null;
}

export interface StreamPage {
  streams: Stream[];
  total: number;
  next?: string;
}

export interface Stats {
  streams: number;
  publishers: number;
  viewers: Viewers;
  bitrate_in_bps: number;
  bitrate_out_bps: number;
  uptime_s: number;
  memory_bytes: number;
  cpu_seconds: number;
}

export interface Info {
  version: string;
  now_ms: number;
  publish_url: string | null;
  rtmp_port: number;
}
