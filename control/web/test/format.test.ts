import { describe, expect, it } from 'vitest';
import type { Track } from '../src/api/types';
import * as format from '../src/format';

const track = (t: Partial<Track>): Track => ({
  id: 'v0',
  codec: 'H.264',
  rfc6381: 'avc1.64001f',
  width: null,
  height: null,
  sample_rate: null,
  channels: null,
  ...t,
});

it('bit rates have three digits and a unit', () => {
  const cases: [number, string][] = [
    [0, '0 bit/s'],
    [999, '999 bit/s'],
    [999.6, '1.00 kbit/s'],
    [64_000, '64.0 kbit/s'],
    [999_400, '999 kbit/s'],
    [999_600, '1.00 Mbit/s'],
    [2_512_345, '2.51 Mbit/s'],
    [25_123_450, '25.1 Mbit/s'],
    [4e15, '4000 Tbit/s'],
  ];
  for (const [bps, text] of cases) expect(format.bitrate(bps)).toBe(text);
  expect(format.bytes(1_234_567)).toBe('1.23 MB');
});

it('durations name the two units that matter', () => {
  const cases: [number, string][] = [
    [-3, '0 s'],
    [0.9, '0 s'],
    [59.9, '59 s'],
    [60, '1 min 00 s'],
    [187, '3 min 07 s'],
    [3600, '1 h 00 min'],
    [7500, '2 h 05 min'],
    [86_400, '1 d 0 h'],
    [273_600, '3 d 4 h'],
  ];
  for (const [seconds, text] of cases) expect(format.duration(seconds)).toBe(text);
});

it('latency and frame rate', () => {
  expect(format.latency(null)).toBe('–');
  expect(format.latency(843)).toBe('0.84 s');
  expect(format.latency(-12)).toBe('-0.01 s');
  expect(format.frameRate(29.970029)).toBe('29.97');
  expect(format.frameRate(30)).toBe('30');
});

it('tracks say what is known of them', () => {
  expect(format.track(track({ width: 1280, height: 720 }))).toBe('H.264 1280×720');
  expect(format.track(track({ codec: 'AAC', sample_rate: 44_100, channels: 2 }))).toBe('AAC 44.1 kHz stereo');
  expect(format.track(track({ codec: 'Opus', sample_rate: 48_000, channels: 6 }))).toBe('Opus 48 kHz 6 ch');
  expect(format.track(track({ codec: 'MP3', channels: 1 }))).toBe('MP3 mono');
  expect(format.track(track({}))).toBe('H.264');
});

it('encoders go by the name people know', () => {
  expect(format.encoder('obs-output module (libobs version 32.0.1)')).toBe('OBS 32.0.1');
  expect(format.encoder('Lavf62.3.100')).toBe('ffmpeg (Lavf 62.3.100)');
  expect(format.encoder('FMLE/3.0')).toBe('FMLE/3.0');
  expect(format.encoder(null)).toBe('an unnamed encoder');
});

describe('viewers', () => {
  it('are counted over the protocols', () => {
    const some = { flv: 2, ws_flv: 0, rtmp: 1, hls: 10, ts: 3, srt: 0 };
    expect(format.viewers(some)).toBe(16);
    expect(format.viewersByProtocol(some)).toEqual([
      { name: 'LL-HLS', count: 10 },
      { name: 'HTTP-FLV', count: 2 },
      { name: 'RTMP', count: 1 },
      { name: 'MPEG-TS', count: 3 },
    ]);
  });
});
