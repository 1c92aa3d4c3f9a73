import { describe, expect, it } from 'vitest';
import { ffmpegCommand, isVia, playUrl, rtmpBase, rtmpPlayUrl, type Place } from '../src/address';

const place = (origin: string): Place => new URL(origin);

describe('playUrl', () => {
  it('follows the page: host, port and whether it is secure', () => {
    const plain = place('http://weir.example:8080');
    expect(playUrl(plain, 'live', 'a', 'hls')).toBe('http://weir.example:8080/live/a/index.m3u8');
    expect(playUrl(plain, 'live', 'a', 'flv')).toBe('http://weir.example:8080/live/a.flv');
    expect(playUrl(plain, 'live', 'a', 'ws')).toBe('ws://weir.example:8080/live/a.flv');
    expect(playUrl(plain, 'live', 'a', 'rtc')).toBe('http://weir.example:8080/live/a/whep');
    const secure = place('https://weir.example');
    expect(playUrl(secure, 'live', 'a', 'hls')).toBe('https://weir.example/live/a/index.m3u8');
    expect(playUrl(secure, 'live', 'a', 'ws')).toBe('wss://weir.example/live/a.flv');
  });

  it('keeps a name one segment of the path', () => {
    expect(playUrl(place('http://h'), 'live', 'a b/ü?#', 'flv')).toBe('http://h/live/a%20b%2F%C3%BC%3F%23.flv');
  });
});

describe('a grant that the page was opened with', () => {
  const page = place('https://weir.example/watch/live/a?via=hls&token=ey.J-_.x&token=other');

  it('is shown by every player', () => {
    expect(playUrl(page, 'live', 'a', 'hls')).toBe('https://weir.example/~ey.J-_.x/live/a/index.m3u8');
    expect(playUrl(page, 'live', 'a', 'flv')).toBe('https://weir.example/~ey.J-_.x/live/a.flv');
    expect(playUrl(page, 'live', 'a', 'ws')).toBe('wss://weir.example/~ey.J-_.x/live/a.flv');
    expect(rtmpPlayUrl(page, 'rtmp://h', 'live', 'a')).toBe('rtmp://h/live/a?token=ey.J-_.x');
  });

  it('can be nothing else', () => {
    const odd = (token: string) => place(`http://h/watch/live/a?token=${encodeURIComponent(token)}`);
    expect(playUrl(odd('../b?x#'), 'live', 'a', 'flv')).toBe('http://h/~..%2Fb%3Fx%23/live/a.flv');
    expect(playUrl(odd(''), 'live', 'a', 'flv')).toBe('http://h/live/a.flv');
    expect(rtmpPlayUrl(odd('a&b'), 'rtmp://h', 'live', 'a')).toBe('rtmp://h/live/a?token=a%26b');
    expect(rtmpPlayUrl(place('http://h'), 'rtmp://h', 'live', 'a')).toBe('rtmp://h/live/a');
  });
});

describe('rtmpBase', () => {
  it('is the page’s host unless the server says another', () => {
    expect(rtmpBase(place('http://weir.example:8080'), null, 1935)).toBe('rtmp://weir.example');
    expect(rtmpBase(place('http://weir.example:8080'), null, 1936)).toBe('rtmp://weir.example:1936');
    expect(rtmpBase(place('http://[::1]:8080'), null, 1935)).toBe('rtmp://[::1]');
    expect(rtmpBase(place('http://h'), 'rtmp://in.example/', 1936)).toBe('rtmp://in.example');
    expect(rtmpBase(place('http://h'), undefined)).toBe('rtmp://h');
  });
});

it('the ffmpeg command ends in the address', () => {
  expect(ffmpegCommand('rtmp://h', 'live', 'a')).toMatch(/ -f flv rtmp:\/\/h\/live\/a$/);
});

it('only known protocols are ones', () => {
  expect(['hls', 'flv', 'ws'].every(isVia)).toBe(true);
  expect([undefined, null, '', 'rtmp', ['hls'], 'toString'].some(isVia)).toBe(false);
});
