// One connection of a stream to a video element, by whatever protocol.

/** What an attachment tells its session. */
export interface Events {
  /** It is over and cannot go on. */
  failed(reason: string): void;
  /** The server ended the stream. */
  ended(): void;
}

export interface Attachment {
  /** What the server says of the stream by this protocol, for people. */
  notice?: string | null;
  /** When the frame shown now came in to the server, by the server's clock in ms, if that is known. */
  cameInAt(): number | null;
  /** Called a few times a second: keep close to the live edge, with more distance after stalls. */
  keepUp(stalls: number): void;
  /** The server has said that nothing more will come. */
  over(): boolean;
  destroy(): void;
}

/** Seconds of media ahead of the playhead. */
export function bufferedAhead(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  for (let i = buffered.length - 1; i >= 0; i -= 1) {
    // The element may stand a little before the range it is about to play.
    if (currentTime >= buffered.start(i) - 0.1) return Math.max(0, buffered.end(i) - currentTime);
  }
  return 0;
}
