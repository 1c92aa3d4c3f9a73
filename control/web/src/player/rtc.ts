// WebRTC, by WHEP.

import type { MediaClock } from '../api/types';
import { exchange, onGoodbye } from '../rtc/exchange';
import type { Attachment, Events } from './attachment';
import { cameInAtRtp } from './latency';

/** A picture whose successor is so late stands still: its age is not guessed at any more. */
const STILL_MS = 1000;

/** Helpers that the last answer named: they are used if the direct way has failed. */
let helpers: RTCIceServer[] = [];
let directFailed = false;

export async function attachRtc(
  video: HTMLVideoElement,
  url: string,
  grant: string | null,
  events: Events,
  clock: () => MediaClock | null | 'unknown',
): Promise<Attachment> {
  if (typeof RTCPeerConnection === 'undefined') throw new Error('this browser has no WebRTC');
  const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers: directFailed ? helpers : [] });
  const stream = new MediaStream();
  let over = false;

  /** The picture that was shown last: its RTP timestamp, and when. */
  let shown: { rtp: number; at: number } | null = null;
  let callback = 0;
  const watch = () => {
    if (!video.requestVideoFrameCallback) return;
    callback = video.requestVideoFrameCallback((now, { rtpTimestamp }) => {
      if (rtpTimestamp !== undefined) shown = { rtp: rtpTimestamp, at: now };
      watch();
    });
  };

  const gone = (failed: boolean) => {
    if (over) return;
    over = true;
    directFailed ||= failed;
    if (failed) events.failed('no way to the server for media (UDP)');
    else events.ended();
  };
  connection.onconnectionstatechange = () => {
    if (connection.connectionState === 'failed') gone(true);
    if (connection.connectionState === 'closed') gone(false);
  };
  connection.ontrack = ({ track }) => stream.addTrack(track);
  connection.addTransceiver('video', { direction: 'recvonly' });
  connection.addTransceiver('audio', { direction: 'recvonly' });

  let welcome;
  try {
    welcome = await exchange(connection, url, grant);
  } catch (error) {
    connection.close();
    throw error;
  }
  const { warning, ice, end } = welcome;
  helpers = ice;
  onGoodbye(connection, () => gone(false));
  video.srcObject = stream;
  watch();
  return {
    notice: warning,
    cameInAt: () => {
      const known = clock();
      if (!shown || !known || known === 'unknown') return null;
      const since = performance.now() - shown.at;
      return since > STILL_MS ? null : cameInAtRtp(shown.rtp, known) + since;
    },
    keepUp: () => undefined,
    over: () => over,
    destroy: () => {
      over = true;
      video.cancelVideoFrameCallback?.(callback);
      connection.close();
      end();
      video.srcObject = null;
    },
  };
}
