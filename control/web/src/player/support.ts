// What this browser can play.

import type { Track } from '../api/types';

/** The name of the picture's codec if the browser has no decoder for it. */
export function unsupportedCodec(
  tracks: readonly Track[],
  isTypeSupported: (type: string) => boolean,
): string | null {
  const picture = tracks.find((track) => track.id.startsWith('v'));
  if (!picture) return null;
  return isTypeSupported(`video/mp4; codecs="${picture.rfc6381}"`) ? null : picture.codec;
}

/** Asks MediaSource, where there is one. */
export function browserCanPlay(type: string): boolean {
  const { ManagedMediaSource, MediaSource } = window as {
    ManagedMediaSource?: typeof window.MediaSource;
    MediaSource?: typeof window.MediaSource;
  };
  return (MediaSource ?? ManagedMediaSource)?.isTypeSupported(type) ?? true;
}
