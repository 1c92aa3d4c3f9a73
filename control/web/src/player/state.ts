// What the viewer is told of a stream.

/** How the video element does. */
export type Playback = 'connecting' | 'playing' | 'stalled' | 'failed' | 'stopped';

/** What the API says of the stream: null before its first answer. */
export type Presence = 'live' | 'interrupted' | 'absent' | null;

/**
 * - `connecting`: first frame awaited
 * - `live`: the picture moves
 * - `buffering`: it moved and will again
 * - `interrupted`: the publisher dropped and may come back
 * - `offline`: nobody publishes; tried again by itself
 * - `stopped`: the viewer stopped it
 * - `unsupported`: this browser cannot play it
 */
export type View =
  | 'connecting'
  | 'live'
  | 'buffering'
  | 'interrupted'
  | 'offline'
  | 'stopped'
  | 'unsupported';

export function view(playback: Playback, presence: Presence, supported: boolean): View {
  if (playback === 'stopped') return 'stopped';
  // What plays, plays, whatever the API said two seconds ago.
  if (playback === 'playing') return 'live';
  if (presence === 'absent') return 'offline';
  if (!supported) return 'unsupported';
  if (presence === 'interrupted') return 'interrupted';
  return playback === 'stalled' ? 'buffering' : 'connecting';
}
