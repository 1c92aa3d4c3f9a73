// LL-HLS, by hls.js where MediaSource is, else by the browser itself (older iPhones).

import type { Attachment, Events } from './attachment';
import { extraAfter, pace } from './pace';

/** A media error that is not gone after so many recoveries within a minute will not go. */
const RECOVERIES = 3;
const RECOVERY_WINDOW_MS = 60_000;

/** PART-HOLD-BACK is the least that can work; this much outlasts a busy moment of the viewer's machine, too. */
const LEAST_TARGET_S = 1.05;

/** A publisher has a grace period to come back in; until then playlists answer late and with 503. */
const PLAYLIST_RETRIES = 12;

export async function attachHls(video: HTMLVideoElement, url: string, events: Events): Promise<Attachment> {
  const { default: Hls } = await import('hls.js');
  if (!Hls.isSupported()) return attachNative(video, url, events);

  const hls = new Hls({
    lowLatencyMode: true,
    enableWorker: false,
    // When hls.js 1.7 empties the back buffer it also forgets which parts of the newest segment it has, and where the
    // sound ends before the picture it then waits at that segment's end for ever. Browsers drop what was played
    // by themselves.
    backBufferLength: Infinity,
    // Where it begins, unless parts are so long that PART-HOLD-BACK is more (`begin`). From there on its distance to the
    // live edge is seen to in `keepUp`.
    liveSyncDuration: LEAST_TARGET_S,
    maxLiveSyncPlaybackRate: 1,
    liveSyncOnStallIncrease: 0,
    playlistLoadPolicy: {
      default: {
        // A blocking reload is answered after three target durations at the latest.
        maxTimeToFirstByteMs: 15_000,
        maxLoadTimeMs: 20_000,
        timeoutRetry: { maxNumRetry: 4, retryDelayMs: 0, maxRetryDelayMs: 0 },
        errorRetry: { maxNumRetry: PLAYLIST_RETRIES, retryDelayMs: 300, maxRetryDelayMs: 2000, backoff: 'exponential' },
      },
    },
  });

  // hls.js is not taken down in the middle of telling of something.
  const ended = () => queueMicrotask(events.ended);
  const failed = (reason: string) => queueMicrotask(() => events.failed(reason));

  let recoveries: number[] = [];
  hls.on(Hls.Events.ERROR, (_event, data) => {
    if (!data.fatal) return;
    const now = performance.now();
    recoveries = recoveries.filter((at) => now - at < RECOVERY_WINDOW_MS);
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries.length < RECOVERIES) {
      recoveries.push(now);
      hls.recoverMediaError();
      return;
    }
    failed(data.details);
  });
  let begun = false;
  const begin = (holdBack_s: number) => {
    if (!begun && holdBack_s > LEAST_TARGET_S) {
      hls.targetLatency = holdBack_s;
      hls.startLoad(hls.liveSyncPosition ?? -1);
    }
    begun = true;
  };
  // Segments that do not follow on those known, as after an origin was started again, hls.js puts where their numbers
  // would be, which may be far from where they are, until it has loaded one.
  let newest: number | null = null;
  let guessed = false;
  hls.on(Hls.Events.LEVEL_PTS_UPDATED, () => (guessed = false));
  let over = false;
  hls.on(Hls.Events.LEVEL_UPDATED, (_event, { details }) => {
    if (newest !== null && details.startSN > newest + 1) guessed = true;
    newest = details.endSN;
    begin(details.partHoldBack);
    over = !details.live;
    // Joined after its end: its last seconds are nothing to watch.
    if (over && video.readyState === HTMLMediaElement.HAVE_NOTHING) ended();
  });
  video.addEventListener('ended', events.ended);
  hls.loadSource(url);
  hls.attachMedia(video);

  return {
    cameInAt: () => hls.playingDate?.getTime() ?? null,
    keepUp: (stalls) => {
      const { latency, liveSyncPosition, targetLatency, latestLevelDetails } = hls;
      if (liveSyncPosition === null || targetLatency === null || latency === 0 || video.seeking || over) return;
      if (guessed) return;
      const target_s = Math.max(LEAST_TARGET_S, latestLevelDetails?.partHoldBack ?? 0) + extraAfter(stalls);
      const move = pace({ behind_s: latency, target_s, rate: video.playbackRate, starting: false });
      const to_s = liveSyncPosition + targetLatency - target_s;
      if (!move.jump) video.playbackRate = move.rate;
      else video.currentTime = latency < 0 ? to_s : Math.max(video.currentTime, to_s);
    },
    over: () => over,
    destroy: () => {
      video.removeEventListener('ended', events.ended);
      hls.destroy();
      video.playbackRate = 1;
    },
  };
}

function attachNative(video: HTMLVideoElement, url: string, events: Events): Attachment {
  const failed = () => events.failed(video.error?.message || 'the browser could not play it');
  video.addEventListener('ended', events.ended);
  video.addEventListener('error', failed);
  video.src = url;
  return {
    cameInAt: () => {
      const start = (video as { getStartDate?: () => Date }).getStartDate?.().getTime();
      return start === undefined || Number.isNaN(start) ? null : start + video.currentTime * 1000;
    },
    keepUp: () => {},
    // The element says `ended`.
    over: () => false,
    destroy: () => {
      video.removeEventListener('ended', events.ended);
      video.removeEventListener('error', failed);
      video.removeAttribute('src');
      video.load();
    },
  };
}
