// A viewer's stay with a stream: connects a video element to it, and again whenever that is lost.

import { grant, playUrl, type Via } from '../address';
import type { MediaClock } from '../api/types';
import { bufferedAhead, type Attachment, type Events } from './attachment';
import { retryDelayMs } from './backoff';
import { attachFlv } from './flv';
import { attachHls } from './hls';
import { latencyMs } from './latency';
import { Refused } from '../rtc/exchange';
import { attachRtc } from './rtc';
import type { Playback, Presence } from './state';

const TICK_MS = 250;

/** After playing for so long the next loss is a new one. */
const SETTLED_MS = 10_000;

/** A picture that stands still for so long has stalled, whether the element says so or not. */
const STILL_MS = 1000;

/** A connection that brings nothing for so long while the stream is live is given up. */
const STUCK_MS = 12_000;

/** What a session measures. */
export interface Readings {
  via: Via;
  playback: Playback;
  /** Age of the picture shown, by the server's clock. */
  latency_ms: number | null;
  /** Seconds of media ahead of the playhead. */
  buffer_s: number;
  dropped_frames: number;
  total_frames: number;
  /** Times that playback stood still after it had begun. */
  stalls: number;
  /** Connections that were lost or refused. */
  fatal_errors: number;
  current_time: number;
  width: number;
  height: number;
  /** What the server has to say: why it refused, or what it leaves out. */
  notice: string | null;
}

export class Session {
  /** How far the server's clock is ahead, in ms. */
  offset_ms = 0;

  private presence: Presence = null;
  private clock: MediaClock | null = null;
  /** By the server's clock: since when the stream's timeline is another than an older clock says. */
  private untiedSince_ms = 0;
  private via: Via = 'hls';
  private attachment: Attachment | null = null;
  /** Counts connections, so that what an old one still has to say is not heard. */
  private connection = 0;
  private playback: Playback = 'stopped';
  private retryTimer: number | undefined;
  private attempt = 0;
  private playingSince: number | null = null;
  private stalls = 0;
  /** Those that the publisher did not cause. */
  private slowStalls = 0;
  private interrupted = false;
  private notice: string | null = null;
  /** Where the playhead stood, and since when. */
  private still = { time: 0, since: 0 };
  private fatalErrors = 0;
  private readonly ticker: number;
  private readonly listeners: [string, () => void][];

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly app: string,
    private readonly name: string,
    private readonly changed: (playback: Playback) => void,
  ) {
    this.listeners = [
      ['playing', () => this.onPlaying()],
      ['timeupdate', () => this.onTimeUpdate()],
      ['waiting', () => this.onWaiting()],
      ['pause', () => this.onPause()],
    ];
    for (const [event, listener] of this.listeners) video.addEventListener(event, listener);
    document.addEventListener('visibilitychange', this.onVisible);
    this.ticker = window.setInterval(() => this.tick(), TICK_MS);
  }

  start(via: Via): void {
    this.via = via;
    this.notice = null;
    this.attempt = 0;
    this.stalls = 0;
    this.slowStalls = 0;
    this.connect();
  }

  stop(): void {
    this.disconnect();
    this.set('stopped');
  }

  /** What the API says: null while it says nothing. */
  learn(presence: Presence, clock: MediaClock | null): void {
    const before = this.presence;
    this.presence = presence;
    if (clock) this.clock = clock;
    if (presence === 'interrupted' && this.playback === 'stalled') this.interrupted = true;
    if (this.playback !== 'failed' || presence === before) return;
    if (presence === 'live') this.connect();
    else if (presence !== 'absent') this.retryLater();
  }

  destroy(): void {
    this.disconnect();
    clearInterval(this.ticker);
    document.removeEventListener('visibilitychange', this.onVisible);
    for (const [event, listener] of this.listeners) this.video.removeEventListener(event, listener);
  }

  readings(): Readings {
    const quality = this.video.getVideoPlaybackQuality();
    const cameIn = this.playback === 'playing' ? (this.attachment?.cameInAt() ?? null) : null;
    return {
      via: this.via,
      playback: this.playback,
      latency_ms: cameIn === null ? null : Math.round(latencyMs(cameIn, Date.now(), this.offset_ms)),
      buffer_s: bufferedAhead(this.video),
      dropped_frames: quality.droppedVideoFrames,
      total_frames: quality.totalVideoFrames,
      stalls: this.stalls,
      fatal_errors: this.fatalErrors,
      current_time: this.video.currentTime,
      width: this.video.videoWidth,
      height: this.video.videoHeight,
      notice: this.notice,
    };
  }

  private connect(): void {
    this.disconnect();
    this.set('connecting');
    this.still = { time: this.video.currentTime, since: performance.now() };
    this.connection += 1;
    const connection = this.connection;
    const current = () => connection === this.connection;
    const events = {
      failed: (reason: string) => current() && this.lost(reason),
      ended: () => current() && this.lost(null),
    };
    const url = playUrl(window.location, this.app, this.name, this.via);
    this.attach(url, events).then(
      (attachment) => {
        if (!current()) return attachment.destroy();
        this.attachment = attachment;
        this.notice = attachment.notice ?? null;
        this.play();
      },
      (error: unknown) => {
        if (current()) this.notice = error instanceof Refused ? error.message : null;
        events.failed(String(error));
      },
    );
  }

  private attach(url: string, events: Events): Promise<Attachment> {
    switch (this.via) {
      case 'hls':
        return attachHls(this.video, url, events);
      case 'rtc':
        return attachRtc(this.video, url, grant(window.location), events, () => this.tie());
      default:
        return attachFlv(this.video, url, events, () => this.tie());
    }
  }

  private disconnect(): void {
    this.connection += 1;
    clearTimeout(this.retryTimer);
    this.attachment?.destroy();
    this.attachment = null;
    this.playingSince = null;
    this.untiedSince_ms = 0;
    this.interrupted = false;
  }

  /** The API's clock, unless a publisher may have come back since. */
  private tie(): MediaClock | null | 'unknown' {
    if (this.untiedSince_ms === 0) return this.clock;
    return this.clock && this.clock.wall_ms >= this.untiedSince_ms ? this.clock : 'unknown';
  }

  /** Browsers let a page play by itself only without sound. */
  private play(): void {
    const connection = this.connection;
    this.video.play().catch((error: unknown) => {
      if (connection !== this.connection || (error as DOMException).name !== 'NotAllowedError') return;
      if (this.video.muted) return this.stop();
      this.video.muted = true;
      this.play();
    });
  }

  /** The connection is over: by an error with a reason, or because the stream ended. */
  private lost(reason: string | null): void {
    if (reason !== null) {
      this.fatalErrors += 1;
      console.warn(`weir: ${this.via} lost: ${reason}`);
    }
    if (this.playingSince !== null && performance.now() - this.playingSince > SETTLED_MS) this.attempt = 0;
    this.disconnect();
    this.set('failed');
    // While the API says that nobody publishes, there is nothing to try.
    if (this.presence !== 'absent') this.retryLater();
  }

  private retryLater(): void {
    clearTimeout(this.retryTimer);
    this.retryTimer = window.setTimeout(() => {
      if (this.presence !== 'absent') this.connect();
    }, retryDelayMs(this.attempt));
    this.attempt += 1;
  }

  private tick(): void {
    if (!this.attachment || this.video.paused) return;
    this.attachment.keepUp(this.slowStalls);
    const [now, time] = [performance.now(), this.video.currentTime];
    if (time !== this.still.time || this.video.seeking) this.still = { time, since: now };
    const still_ms = now - this.still.since;
    if (this.playback === 'playing' && still_ms > STILL_MS) this.onWaiting();
    if (this.playback === 'stalled' && this.attachment.over()) this.lost(null);
    else if (still_ms > STUCK_MS && this.presence !== 'interrupted') this.lost('nothing came');
  }

  private onPlaying(): void {
    if (!this.attachment) return;
    if (this.playback === 'stalled') {
      if (this.interrupted) this.untiedSince_ms = Date.now() + this.offset_ms;
      else this.slowStalls += 1;
    }
    this.interrupted = false;
    this.playingSince ??= performance.now();
    this.set('playing');
  }

  private onTimeUpdate(): void {
    // Some browsers go on after a stall without saying `playing`.
    if (this.playback === 'stalled' && !this.video.paused && this.video.readyState >= 3) this.onPlaying();
  }

  private onWaiting(): void {
    if (this.playback !== 'playing' || this.video.seeking) return;
    this.stalls += 1;
    this.interrupted = this.presence === 'interrupted';
    this.set('stalled');
  }

  private onPause(): void {
    // Browsers pause silent videos in background tabs to save power; `onVisible` goes on.
    if (document.hidden || this.video.ended) return;
    // The system paused it (headphones pulled out, another app's sound). Live is not resumed but joined anew.
    if (this.attachment && this.playback === 'playing') this.stop();
  }

  private readonly onVisible = (): void => {
    if (!document.hidden && this.attachment && this.video.paused) this.play();
  };

  private set(playback: Playback): void {
    if (this.playback === playback) return;
    this.playback = playback;
    this.changed(playback);
  }
}
