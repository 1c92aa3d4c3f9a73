import { describe, expect, it } from 'vitest';
import { ffmpegCommand, isVia, playUrl, rtmpBase, type Place } from '../src/address';

const place = (origin: string): Place => new URL(origin);

describe('playUrl', () => {
  it('follows the page: host, port and whether it is secure', () => {
    const plain = place('http://weir.example:8080');
    expect(playUrl(plain, 'live', 'a', 'hls')).toBe('http://weir.example:8080/live/a/index.m3u8');
    expect(playUrl(plain, 'live', 'a', 'flv')).toBe('http://weir.example:8080/live/a.flv');
    expect(playUrl(plain, 'live', 'a', 'ws')).toBe('ws://weir.example:8080/live/a.flv');
    const secure = place('https://weir.example');
    expect(playUrl(secure, 'live', 'a', 'hls')).toBe('https://weir.example/live/a/index.m3u8');
    expect(playUrl(secure, 'live', 'a', 'ws')).toBe('wss://weir.example/live/a.flv');
  });

  it('keeps a name one segment of the path', () => {
    expect(playUrl(place('http://h'), 'live', 'a b/ü?#', 'flv')).toBe('http://h/live/a%20b%2F%C3%BC%3F%23.flv');
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
