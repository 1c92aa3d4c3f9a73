// HTTP-FLV and WebSocket-FLV, by mpegts.js.

import type { MediaClock } from '../api/types';
import { bufferedAhead, type Attachment, type Events } from './attachment';
import { cameInAt } from './latency';
import { extraAfter, pace } from './pace';

/** The distance kept to the newest frame that is here: what a steady connection needs against jitter. */
const TARGET_S = 0.7;

/** How long after the first picture a jump to the live edge is not noticed. */
const STARTING_MS = 1500;

/** Into a range of the buffer, so that rounding does not leave the playhead before it. */
const INTO_RANGE_S = 0.02;

/** What of onMetaData ties the first frame to the server's clock. */
interface Metadata {
  mediaTimeMs?: unknown;
  wallClockMs?: unknown;
}

/**
 * `clock` is asked for each time: the newest that the API has told, null before the first, and
 * `unknown` while the newest may be of another timeline.
 */
export async function attachFlv(
  video: HTMLVideoElement,
  url: string,
  events: Events,
  clock: () => MediaClock | null | 'unknown',
): Promise<Attachment> {
  const { default: mpegts } = await import('mpegts.js');
  mpegts.LoggingControl.enableAll = false;
  if (!mpegts.getFeatureList().mseLivePlayback) throw new Error('this browser cannot play FLV');

  const player = mpegts.createPlayer(
    { type: 'flv', isLive: true, url },
    {
      isLive: true,
      enableStashBuffer: false,
      lazyLoad: false,
      autoCleanupSourceBuffer: true,
      autoCleanupMaxBackwardDuration: 30,
      autoCleanupMinBackwardDuration: 15,
    },
  );

  /** The first frame's: the player counts its time from there. */
  let first: MediaClock | null = null;
  let firstPictureAt: number | null = null;
  const started = () => (firstPictureAt ??= performance.now());

  player.on(mpegts.Events.METADATA_ARRIVED, (metadata: Metadata) => {
    const { mediaTimeMs, wallClockMs } = metadata;
    if (!first && typeof mediaTimeMs === 'number' && typeof wallClockMs === 'number') {
      first = { media_ms: mediaTimeMs, wall_ms: wallClockMs };
    }
  });
  player.on(mpegts.Events.ERROR, (type: string, detail: string) => events.failed(`${type}: ${detail}`));
  player.on(mpegts.Events.LOADING_COMPLETE, () => events.ended());
  video.addEventListener('loadeddata', started);
  player.attachMediaElement(video);
  player.load();

  const jumpTo = (time: number) => {
    video.playbackRate = 1;
    video.currentTime = time;
  };

  return {
    cameInAt: () => {
      const known = clock();
      if (!first || firstPictureAt === null || known === 'unknown') return null;
      return cameInAt(first.media_ms + video.currentTime * 1000, known ?? first);
    },
    keepUp: (stalls) => {
      const { buffered, currentTime } = video;
      if (buffered.length === 0 || video.seeking || firstPictureAt === null) return;
      const last = buffered.length - 1;
      const [start, end] = [buffered.start(last), buffered.end(last)];
      // A gap, as a publisher that comes back may leave: the newest range is where the stream goes on.
      if (currentTime < start && bufferedAhead(video) < 0.1) return jumpTo(start + INTO_RANGE_S);
      const target_s = TARGET_S + extraAfter(stalls);
      const move = pace({
        behind_s: end - currentTime,
        target_s,
        rate: video.playbackRate,
        starting: performance.now() - firstPictureAt < STARTING_MS,
      });
      if (move.jump) jumpTo(Math.max(start + INTO_RANGE_S, end - target_s));
      else if (video.playbackRate !== move.rate) video.playbackRate = move.rate;
    },
    // LOADING_COMPLETE says so at once.
    over: () => false,
    destroy: () => {
      video.removeEventListener('loadeddata', started);
      player.destroy();
      video.playbackRate = 1;
    },
  };
}
