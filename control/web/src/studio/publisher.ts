// Publishes media by WHIP until it is stopped, and again whenever the connection is lost.

import { retryDelayMs } from '../player/backoff';
import { Refused, exchange, onGoodbye, type Welcome } from '../rtc/exchange';
import { difference, type Counters, type Statistics } from './statistics';

/**
 * - `idle`: nothing is sent
 * - `connecting`: the first connection is awaited
 * - `live`: media flows
 * - `lost`: it was live and is tried again
 */
export type Phase = 'idle' | 'connecting' | 'live' | 'lost';

/** How to publish, and where. */
export interface Target {
  endpoint: string;
  /** A publish key or a grant. */
  key: string | null;
  /** The codec of the picture, as `video/H264`; null: the browser's choice. */
  codec: string | null;
  bitrate_bps: number;
}

/** What a page is told: the phase, and why it is so. */
export type Changed = (phase: Phase, why: string | null) => void;

/** The part of its bitrate that a picture begins with: what a line that does not take all of it can bear for a moment. */
const STARTS_WITH = 0.7;

/** What may be refused for now only: the stream is taken as long as its publisher before is not known to be gone. */
const AGAIN: readonly number[] = [409, 429, 500, 502, 503, 504];

export class Publisher {
  private connection: RTCPeerConnection | null = null;
  private welcome: Welcome | null = null;
  private media: MediaStream | null = null;
  private target: Target | null = null;
  private attempt = 0;
  private wasLive = false;
  private retry: number | undefined;
  private last: Counters | null = null;
  private ice: RTCIceServer[] = [];

  constructor(private readonly changed: Changed) {}

  start(media: MediaStream, target: Target): void {
    this.stop();
    [this.media, this.target, this.attempt, this.wasLive] = [media, target, 0, false];
    void this.connect();
  }

  stop(): void {
    clearTimeout(this.retry);
    this.hangUp();
    [this.media, this.target] = [null, null];
    this.changed('idle', null);
  }

  /** Goes on with other media, which has the same kinds of tracks, in the same connection. */
  async replace(media: MediaStream): Promise<void> {
    this.media = media;
    for (const { sender, receiver } of this.connection?.getTransceivers() ?? []) {
      await sender.replaceTrack(media.getTracks().find(({ kind }) => kind === receiver.track.kind) ?? null);
    }
  }

  /** What has been sent since the last call; null while nothing is. */
  async statistics(): Promise<Statistics | null> {
    const { connection } = this;
    if (connection?.connectionState !== 'connected') return null;
    const report = await connection.getStats();
    if (connection !== this.connection) return null;
    const [now, before] = [count(report), this.last];
    this.last = now;
    return difference(before, now);
  }

  private async connect(): Promise<void> {
    const { media, target } = this;
    if (!media || !target) return;
    this.hangUp();
    this.changed(this.wasLive ? 'lost' : 'connecting', null);
    const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers: this.ice });
    this.connection = connection;
    const current = () => connection === this.connection;
    connection.onconnectionstatechange = () => {
      if (!current()) return;
      switch (connection.connectionState) {
        case 'connected':
          [this.attempt, this.wasLive] = [0, true];
          return this.changed('live', this.welcome?.warning ?? null);
        case 'failed':
          // The helpers of the answer are used from now on.
          this.ice = this.welcome?.ice ?? [];
          return this.again('the connection was lost');
        case 'closed':
          return this.again('the server ended the session');
      }
    };
    for (const track of media.getTracks()) {
      const picture = track.kind === 'video';
      const sendEncodings = [picture ? { maxBitrate: target.bitrate_bps } : {}];
      const transceiver = connection.addTransceiver(track, { direction: 'sendonly', streams: [media], sendEncodings });
      if (picture && target.codec) transceiver.setCodecPreferences?.(preferred(target.codec));
    }
    try {
      const welcome = await exchange(connection, target.endpoint, target.key, target.bitrate_bps * STARTS_WITH);
      if (!current()) return welcome.end();
      this.welcome = welcome;
      onGoodbye(connection, () => current() && this.again('the server ended the session'));
    } catch (error) {
      if (!current()) return;
      const why = error instanceof Error ? error.message : String(error);
      if (!(error instanceof Refused) || AGAIN.includes(error.status)) return this.again(why);
      this.stop();
      this.changed('idle', why);
    }
  }

  private again(why: string): void {
    this.hangUp();
    this.changed(this.wasLive ? 'lost' : 'connecting', why);
    clearTimeout(this.retry);
    this.retry = window.setTimeout(() => void this.connect(), retryDelayMs(this.attempt));
    this.attempt += 1;
  }

  private hangUp(): void {
    const { connection, welcome } = this;
    [this.connection, this.welcome, this.last] = [null, null, null];
    connection?.close();
    welcome?.end();
  }
}

/** The browser's codecs of pictures, this one first. */
function preferred(mime: string): RTCRtpCodec[] {
  const all = RTCRtpSender.getCapabilities('video')?.codecs ?? [];
  const rank = ({ mimeType }: RTCRtpCodec) => (mimeType.toLowerCase() === mime.toLowerCase() ? 0 : 1);
  return [...all].sort((a, b) => rank(a) - rank(b));
}

/** What the server takes of what this browser can send, as `video/H264`. */
export function codecs(): string[] {
  const all = RTCRtpSender.getCapabilities?.('video')?.codecs.map(({ mimeType }) => mimeType) ?? [];
  return [...new Set(all)].filter((mime) => TAKEN.includes(mime.toLowerCase()));
}

const TAKEN: readonly string[] = ['video/h264', 'video/h265', 'video/av1'];

function count(report: RTCStatsReport): Counters {
  const counters: Counters = {
    at_ms: performance.now(), bytes: 0, packets: 0, resent: 0, frames: 0, lost: 0, keyframes: 0,
    width: 0, height: 0, rtt_ms: null, codec: null, limited: null,
  };
  for (const stat of report.values()) {
    if (stat.type === 'outbound-rtp') {
      counters.bytes += stat.bytesSent ?? 0;
      counters.packets += stat.packetsSent ?? 0;
      counters.resent += stat.retransmittedPacketsSent ?? 0;
      if (stat.kind !== 'video') continue;
      counters.frames += stat.framesEncoded ?? 0;
      counters.keyframes += stat.keyFramesEncoded ?? 0;
      counters.width = stat.frameWidth ?? 0;
      counters.height = stat.frameHeight ?? 0;
      counters.codec = report.get(stat.codecId)?.mimeType ?? null;
      counters.limited = stat.qualityLimitationReason === 'none' ? null : (stat.qualityLimitationReason ?? null);
    } else if (stat.type === 'remote-inbound-rtp') {
      counters.lost += stat.packetsLost ?? 0;
      if (typeof stat.roundTripTime === 'number') counters.rtt_ms = stat.roundTripTime * 1000;
    } else if (stat.type === 'candidate-pair' && stat.nominated && typeof stat.currentRoundTripTime === 'number') {
      counters.rtt_ms ??= stat.currentRoundTripTime * 1000;
    }
  }
  return counters;
}
