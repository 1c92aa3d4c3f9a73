import { afterEach, describe, expect, it, vi } from 'vitest';
import { Refused, exchange, onGoodbye, startingAt, withRoundTrips } from '../src/rtc/exchange';
import { iceServers } from '../src/rtc/links';
import { difference, type Counters } from '../src/studio/statistics';

describe('iceServers', () => {
  it('reads the servers of RFC 9725', () => {
    const link =
      '<stun:stun.example.net>; rel="ice-server", ' +
      '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="1700:u,x"; credential="a;b="; ' +
      'credential-type="password", <https://example.net/>; rel=next';
    expect(iceServers(link)).toEqual([
      { urls: 'stun:stun.example.net' },
      { urls: 'turn:turn.example.net?transport=udp', username: '1700:u,x', credential: 'a;b=' },
    ]);
  });

  it('takes nothing else for one', () => {
    for (const link of [null, '', 'x', '<>', '<turn:a>', '<javascript:x>; rel="ice-server"', '<turn:a; rel=ice-server']) {
      expect(iceServers(link), String(link)).toEqual([]);
    }
  });
});

describe('withRoundTrips', () => {
  it('offers reports for what may be asked for again, once', () => {
    const sdp = 'a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:97 transport-cc\r\n';
    const offered = 'a=rtcp-fb:96 nack\r\na=rtcp-fb:96 rrtr\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:97 transport-cc\r\n';
    expect(withRoundTrips(sdp)).toBe(offered);
    expect(withRoundTrips(offered)).toBe(offered);
  });
});

describe('startingAt', () => {
  it('tells pictures what to begin with', () => {
    const answer =
      'v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n' +
      'm=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1\r\na=fmtp:103 apt=102\r\n';
    expect(startingAt(answer, 1_750_000)).toBe(answer.replace('mode=1', 'mode=1;x-google-start-bitrate=1750'));
    const vp8 = 'v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\na=mid:0\r\n';
    expect(startingAt(vp8, 500_000)).toBe(vp8.replace('90000\r\n', '90000\r\na=fmtp:96 x-google-start-bitrate=500\r\n'));
  });
});

describe('exchange', () => {
  function connection() {
    const transport = { state: 'connected', onstatechange: null as null | (() => void) };
    return {
      transport,
      localDescription: { sdp: 'offer' },
      createOffer: vi.fn(async () => ({ type: 'offer', sdp: 'offer' })),
      setLocalDescription: vi.fn(async () => undefined),
      setRemoteDescription: vi.fn(async () => undefined),
      getSenders: () => [{ transport }],
    };
  }
  const asPeer = (fake: ReturnType<typeof connection>) => fake as unknown as RTCPeerConnection;

  function answering(...answers: Response[]) {
    const fetch = vi.fn(async (_url: string | URL, _init?: RequestInit) => answers.shift() ?? new Response());
    vi.stubGlobal('fetch', fetch);
    return fetch;
  }

  afterEach(() => vi.unstubAllGlobals());

  function created(headers: Record<string, string> = {}) {
    const response = new Response('answer', { status: 201, headers: { location: '/live/a/whep/1', ...headers } });
    Object.defineProperty(response, 'url', { value: 'https://weir.example/live/a/whep' });
    return response;
  }

  it('takes the answer and ends the session at the server', async () => {
    const fetch = answering(created({ warning: '199 - "no sound"', link: '<stun:s>; rel="ice-server"' }));
    const peer = connection();
    const welcome = await exchange(asPeer(peer), 'https://weir.example/live/a/whep', 'secret');
    expect(fetch.mock.calls[0]![1]).toMatchObject({ method: 'POST', body: 'offer', headers: { authorization: 'Bearer secret' } });
    expect(peer.setRemoteDescription).toHaveBeenCalledWith({ type: 'answer', sdp: 'answer' });
    expect([welcome.warning, welcome.ice]).toEqual(['no sound', [{ urls: 'stun:s' }]]);
    welcome.end();
    expect(String(fetch.mock.calls[1]![0])).toBe('https://weir.example/live/a/whep/1');
    expect(fetch.mock.calls[1]![1]).toMatchObject({ method: 'DELETE', keepalive: true });
  });

  it('says why it was refused', async () => {
    answering(new Response('{"title":"Unprocessable","detail":"the stream has B-frames"}', { status: 422 }));
    const refused = await exchange(asPeer(connection()), 'https://h/', null).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Refused);
    expect(refused).toMatchObject({ status: 422, message: 'the stream has B-frames' });
    answering(new Response('<html>', { status: 502, statusText: 'Bad Gateway' }));
    await expect(exchange(asPeer(connection()), 'https://h/', null)).rejects.toThrow('502 Bad Gateway');
  });

  it('leaves no session behind whose answer cannot be used', async () => {
    const fetch = answering(created());
    const peer = connection();
    peer.setRemoteDescription.mockRejectedValueOnce(new Error('bad SDP'));
    await expect(exchange(asPeer(peer), 'https://h/', null)).rejects.toThrow('bad SDP');
    expect(fetch.mock.calls[1]![1]).toMatchObject({ method: 'DELETE' });
  });

  it('hears a goodbye', () => {
    const [peer, over] = [connection(), vi.fn()];
    onGoodbye(asPeer(peer), over);
    peer.transport.onstatechange!();
    expect(over).not.toHaveBeenCalled();
    peer.transport.state = 'closed';
    peer.transport.onstatechange!();
    expect(over).toHaveBeenCalledOnce();
  });
});

describe('difference', () => {
  const at = (at_ms: number, more: Partial<Counters> = {}): Counters => ({
    at_ms, bytes: 0, packets: 0, resent: 0, frames: 0, lost: 0, keyframes: 0,
    width: 1280, height: 720, rtt_ms: 12, codec: 'video/H264', limited: null, ...more,
  });

  it('makes rates of counters', () => {
    const now = difference(at(1000), at(3000, { bytes: 500_000, packets: 200, lost: 10, frames: 60, resent: 7 }));
    expect(now).toMatchObject({ bitrate_bps: 2_000_000, fps: 30, loss: 0.05, resent: 7 });
  });

  it('knows no rates at first, and none below zero', () => {
    expect(difference(null, at(1000, { bytes: 500, frames: 2 }))).toMatchObject({ bitrate_bps: 0, fps: 0, loss: 0 });
    expect(difference(at(0, { bytes: 500, lost: 3 }), at(1000))).toMatchObject({ bitrate_bps: 0, loss: 0 });
  });
});
