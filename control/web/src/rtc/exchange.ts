// An offer for an answer, as WHIP (RFC 9725) and WHEP have it: one request, and a session that is deleted at the end.

import { iceServers } from './links';

/** The server said no, in words for people. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** What a server answers. */
export interface Welcome {
  /** What of the stream is left out. */
  warning: string | null;
  /** Servers that help if the direct way is closed. */
  ice: RTCIceServer[];
  /** Ends the session at the server, even while the page is being left. */
  end(): void;
}

/**
 * Makes `connection`'s offer to `endpoint`, and takes the answer. `bearer` is a grant or a publish key; pictures that are sent
 * begin with `start_bps`.
 */
export async function exchange(
  connection: RTCPeerConnection,
  endpoint: string,
  bearer: string | null,
  start_bps: number | null = null,
): Promise<Welcome> {
  // The server answers whoever checks (ICE-lite): no candidate of ours has to be known before.
  await describe(connection);
  const authorization: Record<string, string> = bearer ? { authorization: `Bearer ${bearer}` } : {};
  const answer = await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/sdp', ...authorization },
    body: connection.localDescription!.sdp,
  });
  const text = await answer.text();
  if (answer.status !== 201) throw new Refused(answer.status, problem(text) ?? `${answer.status} ${answer.statusText}`);
  const location = answer.headers.get('location');
  const end = () => {
    if (!location) return;
    const session = new URL(location, answer.url);
    // One that is over already is as well.
    fetch(session, { method: 'DELETE', headers: authorization, keepalive: true }).catch(() => undefined);
  };
  try {
    await connection.setRemoteDescription({ type: 'answer', sdp: start_bps ? startingAt(text, start_bps) : text });
  } catch (error) {
    end();
    throw error;
  }
  return { warning: quoted(answer.headers.get('warning')), ice: iceServers(answer.headers.get('link')), end };
}

/**
 * Who only receives knows no round trip, and asks again for what it lacks after a guess of 100 ms, unless it offers reports by
 * which it can tell (RFC 3611 §4.4): Chromium has them, and does not offer them by itself.
 */
export function withRoundTrips(sdp: string): string {
  return sdp.replace(/^a=rtcp-fb:(\d+) nack\r?\n(?!a=rtcp-fb:\1 rrtr)/gm, (line, type) => `${line}a=rtcp-fb:${type} rrtr\r\n`);
}

/**
 * Chromium begins with 300 kbit/s, and takes a quarter of a minute to find out that a line has more, unless the answer names
 * what to begin with. Others do not know the parameter, and ignore it (RFC 8866 §6.15).
 */
export function startingAt(answer: string, bps: number): string {
  const parameter = `x-google-start-bitrate=${Math.round(bps / 1000)}`;
  const [session, ...media] = answer.split(/(?=^m=)/m);
  const pictures = (section: string) => {
    const [type] = /^m=video \S+ \S+ (\d+)/.exec(section)?.slice(1) ?? [];
    if (!type) return section;
    const line = new RegExp(`^a=fmtp:${type} [^\\r\\n]*`, 'm');
    if (line.test(section)) return section.replace(line, (own) => `${own};${parameter}`);
    return section.replace(new RegExp(`^a=rtpmap:${type} .*\\r?\\n`, 'm'), (own) => `${own}a=fmtp:${type} ${parameter}\r\n`);
  };
  return [session, ...media.map(pictures)].join('');
}

/** Takes the connection's own offer. */
async function describe(connection: RTCPeerConnection): Promise<void> {
  const { type, sdp } = await connection.createOffer();
  try {
    await connection.setLocalDescription({ type, sdp: withRoundTrips(sdp ?? '') });
  } catch {
    // A browser that takes only what it said itself.
    await connection.setLocalDescription();
  }
}

/** Calls `over` when the other side says goodbye by DTLS, of a connection whose answer is there. */
export function onGoodbye(connection: RTCPeerConnection, over: () => void): void {
  const transport = connection.getSenders()[0]?.transport;
  if (transport) transport.onstatechange = () => transport.state === 'closed' && over();
}

/** What a problem document (RFC 9457) says. */
function problem(body: string): string | null {
  try {
    const { detail, title } = JSON.parse(body) as { detail?: string; title?: string };
    return detail ?? title ?? null;
  } catch {
    return null;
  }
}

/** The text of a `Warning` header. */
function quoted(warning: string | null): string | null {
  return warning ? (/"([^"]*)"/.exec(warning)?.[1] ?? warning) : null;
}
