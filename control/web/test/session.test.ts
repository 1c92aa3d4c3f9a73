import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { MediaClock } from '../src/api/types';
import type { Attachment, Events } from '../src/player/attachment';
import { Session } from '../src/player/session';
import type { Playback } from '../src/player/state';

/** An attachment that a test made, with what it may tell its session. */
interface Made extends Attachment {
  url: string;
  events: Events;
  clock?: () => MediaClock | null | 'unknown';
}

const made: Made[] = [];

function attach(_video: unknown, url: string, events: Events, clock?: Made['clock']): Promise<Attachment> {
  const does = { cameInAt: () => Date.now() - 800, keepUp: vi.fn(), over: vi.fn(() => false), destroy: vi.fn() };
  const one = { url, events, ...does, ...(clock && { clock }) };
  made.push(one);
  return Promise.resolve(one);
}

vi.mock('../src/player/hls', () => ({ attachHls: (...args: Parameters<typeof attach>) => attach(...args) }));
vi.mock('../src/player/flv', () => ({ attachFlv: (...args: Parameters<typeof attach>) => attach(...args) }));

class Video extends EventTarget {
  muted = false;
  paused = false;
  ended = false;
  seeking = false;
  readyState = 4;
  currentTime = 3;
  videoWidth = 1280;
  videoHeight = 720;
  buffered = { length: 1, start: () => 0, end: () => 3.5 };
  play = vi.fn(() => Promise.resolve());
  getVideoPlaybackQuality = () => ({ droppedVideoFrames: 1, totalVideoFrames: 90 });

  says(event: string) {
    this.dispatchEvent(new Event(event));
  }

  /** Lets time pass in which the picture moves. */
  async plays(ms: number) {
    for (let passed = 0; passed < ms; passed += 250) {
      this.currentTime += 0.25;
      await vi.advanceTimersByTimeAsync(250);
    }
  }
}

let video: Video;
let session: Session;
let states: Playback[];
const latest = () => made.at(-1)!;
const settled = () => vi.advanceTimersByTimeAsync(0);

async function playing(via: 'hls' | 'flv' = 'flv') {
  session.start(via);
  await settled();
  video.says('playing');
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, 'warn').mockReturnValue();
  vi.stubGlobal('window', Object.assign(globalThis, { location: new URL('http://h:8080/watch/live/a') }));
  vi.stubGlobal('document', Object.assign(new EventTarget(), { hidden: false }));
  made.length = 0;
  states = [];
  video = new Video();
  session = new Session(video as unknown as HTMLVideoElement, 'live', 'a', (now) => states.push(now));
});

afterEach(() => {
  session.destroy();
  vi.unstubAllGlobals();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('a session', () => {
  it('connects, plays and measures', async () => {
    await playing();
    expect(latest().url).toBe('http://h:8080/live/a.flv');
    expect(states).toEqual(['connecting', 'playing']);
    expect(session.readings()).toEqual({
      via: 'flv',
      playback: 'playing',
      notice: null,
      latency_ms: 800,
      buffer_s: 0.5,
      dropped_frames: 1,
      total_frames: 90,
      stalls: 0,
      fatal_errors: 0,
      current_time: 3,
      width: 1280,
      height: 720,
    });
  });

  it('keeps up with the live edge while it is connected', async () => {
    await playing();
    await video.plays(1000);
    expect(latest().keepUp).toHaveBeenCalledTimes(4);
    session.stop();
    await vi.advanceTimersByTimeAsync(1000);
    expect(latest().keepUp).toHaveBeenCalledTimes(4);
  });

  it('counts stalls, but not seeks or the wait for the first picture', async () => {
    session.start('flv');
    await settled();
    video.says('waiting');
    video.says('playing');
    video.seeking = true;
    video.says('waiting');
    video.seeking = false;
    expect(session.readings().stalls).toBe(0);
    video.says('waiting');
    expect(session.readings()).toMatchObject({ stalls: 1, playback: 'stalled', latency_ms: null });
    video.says('timeupdate');
    expect(session.readings()).toMatchObject({ stalls: 1, playback: 'playing' });
  });

  it('connects again after a loss, later each time', async () => {
    await playing();
    const gaps: number[] = [];
    for (let losses = 1; losses <= 6; losses += 1) {
      const connections = made.length;
      const lostAt = Date.now();
      latest().events.failed('gone');
      expect(latest().destroy).toHaveBeenCalledOnce();
      expect(session.readings()).toMatchObject({ playback: 'failed', fatal_errors: losses });
      while (made.length === connections) await vi.advanceTimersByTimeAsync(10);
      gaps.push(Date.now() - lostAt);
    }
    expect(gaps[0]).toBeLessThanOrEqual(510);
    expect(gaps[5]).toBeGreaterThanOrEqual(3750);
    expect(gaps[5]).toBeLessThanOrEqual(6260);
  });

  it('takes a loss after a long time as the first', async () => {
    await playing();
    for (let i = 0; i < 4; i += 1) {
      latest().events.failed('gone');
      await vi.advanceTimersByTimeAsync(7000);
    }
    video.says('playing');
    await video.plays(11_000);
    const connections = made.length;
    latest().events.failed('gone');
    await vi.advanceTimersByTimeAsync(500);
    expect(made.length).toBe(connections + 1);
  });

  it('tries again after the end, which is no error', async () => {
    await playing('hls');
    latest().events.ended();
    expect(session.readings()).toMatchObject({ playback: 'failed', fatal_errors: 0 });
    await vi.advanceTimersByTimeAsync(600);
    expect(made).toHaveLength(2);
    expect(latest().url).toBe('http://h:8080/live/a/index.m3u8');
  });

  it('waits while nobody publishes and connects at once when somebody does', async () => {
    await playing();
    session.learn('live', null);
    expect(made).toHaveLength(1);
    session.learn('absent', null);
    latest().events.ended();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(made).toHaveLength(1);
    session.learn('live', null);
    expect(made).toHaveLength(2);
    video.says('playing');
    await video.plays(20_000);
    expect(made).toHaveLength(2);
  });

  it('tries by itself while the API says nothing', async () => {
    await playing();
    session.learn('absent', null);
    latest().events.failed('gone');
    session.learn(null, null);
    await vi.advanceTimersByTimeAsync(600);
    expect(made).toHaveLength(2);
  });

  it('sees a picture that stands still, and gives up what brings nothing', async () => {
    await playing('hls');
    await vi.advanceTimersByTimeAsync(1500);
    expect(session.readings()).toMatchObject({ playback: 'stalled', stalls: 1 });
    await vi.advanceTimersByTimeAsync(11_000);
    expect(session.readings()).toMatchObject({ fatal_errors: 1 });
  });

  it('gives nothing up while a publisher may come back', async () => {
    await playing('hls');
    session.learn('interrupted', null);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(session.readings()).toMatchObject({ playback: 'stalled', fatal_errors: 0 });
    expect(made).toHaveLength(1);
  });

  it('takes a stream whose server said its end as ended once it stands still', async () => {
    await playing('hls');
    vi.mocked(latest().over).mockReturnValue(true);
    await video.plays(3000);
    expect(session.readings().playback).toBe('playing');
    await vi.advanceTimersByTimeAsync(1500);
    expect(session.readings()).toMatchObject({ playback: 'failed', fatal_errors: 0 });
  });

  it('keeps more distance after stalls, but not after those of the publisher', async () => {
    await playing();
    video.says('waiting');
    video.says('playing');
    session.learn('interrupted', null);
    video.says('waiting');
    video.says('playing');
    await video.plays(250);
    expect(latest().keepUp).toHaveBeenLastCalledWith(1);
    expect(session.readings().stalls).toBe(2);
  });

  it('does not measure by a clock from before the publisher came back', async () => {
    await playing();
    const old = { media_ms: 1000, wall_ms: Date.now() };
    session.learn('live', old);
    expect(latest().clock!()).toBe(old);
    session.learn('interrupted', old);
    video.says('waiting');
    await vi.advanceTimersByTimeAsync(5000);
    video.says('playing');
    expect(latest().clock!()).toBe('unknown');
    const now = { media_ms: 1200, wall_ms: Date.now() + 10 };
    session.learn('live', now);
    expect(latest().clock!()).toBe(now);
  });

  it('does not listen to connections of the past', async () => {
    await playing('hls');
    const old = latest();
    session.start('flv');
    await settled();
    old.events.failed('late');
    old.events.ended();
    expect(session.readings()).toMatchObject({ via: 'flv', playback: 'connecting', fatal_errors: 0 });
    await vi.advanceTimersByTimeAsync(6000);
    expect(made).toHaveLength(2);
  });

  it('drops a connection that comes about after it was given up', async () => {
    session.start('hls');
    session.stop();
    await settled();
    expect(latest().destroy).toHaveBeenCalledOnce();
    expect(video.play).not.toHaveBeenCalled();
  });

  it('stays stopped until it is started', async () => {
    await playing();
    session.stop();
    latest().events.ended();
    session.learn('live', null);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(made).toHaveLength(1);
    expect(states.at(-1)).toBe('stopped');
    await playing();
    expect(states.at(-1)).toBe('playing');
  });

  it('plays without sound where the browser allows nothing else', async () => {
    const refusal = new DOMException('no gesture', 'NotAllowedError');
    video.play.mockRejectedValueOnce(refusal);
    session.start('flv');
    await settled();
    expect(video.muted).toBe(true);
    expect(video.play).toHaveBeenCalledTimes(2);
    video.play.mockRejectedValue(refusal);
    session.start('flv');
    await settled();
    expect(states.at(-1)).toBe('stopped');
  });

  it('stops when the system pauses it, and goes on after a while in the background', async () => {
    await playing();
    Object.assign(document, { hidden: true });
    video.paused = true;
    video.says('pause');
    expect(states.at(-1)).toBe('playing');
    Object.assign(document, { hidden: false });
    document.dispatchEvent(new Event('visibilitychange'));
    expect(video.play).toHaveBeenCalledTimes(2);
    video.says('pause');
    expect(states.at(-1)).toBe('stopped');
  });
});
