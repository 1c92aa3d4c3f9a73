// `Link` headers of WHIP and WHEP answers (RFC 8288): servers that help peers to reach each other (RFC 9725 §4.6).

/** The STUN and TURN servers that a `Link` header names. */
export function iceServers(link: string | null): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const [, url, rest] of (link ?? '').matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^\s,;]+))*)/g)) {
    const of = Object.fromEntries(
      [...rest!.matchAll(/;\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s,;]+))/g)].map(([, name, quoted, bare]) => [
        name!.toLowerCase(),
        quoted ?? bare ?? '',
      ]),
    );
    if (of['rel'] !== 'ice-server' || !/^(stuns?|turns?):/.test(url!)) continue;
    servers.push(
      of['username'] ? { urls: url!, username: of['username'], credential: of['credential'] ?? '' } : { urls: url! },
    );
  }
  return servers;
}
