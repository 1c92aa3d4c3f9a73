import { describe, expect, it } from 'vitest';
import type { Track } from '../src/api/types';
import { retryDelayMs } from '../src/player/backoff';
import { extraAfter, pace } from '../src/player/pace';
import { view } from '../src/player/state';
import { unsupportedCodec } from '../src/player/support';

describe('pace', () => {
  const at = (behind_s: number, rate = 1, starting = false) =>
    pace({ behind_s, target_s: 0.5, rate, starting });

  it('leaves alone what is near the target', () => {
    for (const behind of [0.42, 0.5, 0.75]) expect(at(behind)).toEqual({ jump: false, rate: 1 });
  });

  it('plays faster when behind, until the target is reached', () => {
    const faster = at(1);
    expect(faster).toMatchObject({ jump: false });
    const rate = (faster as { rate: number }).rate;
    expect(rate).toBeGreaterThan(1);
    expect(at(0.7, rate)).toEqual({ jump: false, rate });
    expect(at(0.55, rate)).toEqual({ jump: false, rate: 1 });
  });

  it('plays slower when too close, until the target is reached', () => {
    const rate = (at(0.1) as { rate: number }).rate;
    expect(rate).toBeLessThan(1);
    expect(at(0.4, rate)).toEqual({ jump: false, rate });
    expect(at(0.5, rate)).toEqual({ jump: false, rate: 1 });
  });

  it('jumps when far behind, and sooner at the start', () => {
    expect(at(3.1)).toEqual({ jump: true });
    expect(at(2).jump).toBe(false);
    expect(at(2, 1, true)).toEqual({ jump: true });
    expect(at(0.9, 1, true).jump).toBe(false);
  });

  it('jumps back from beyond the live edge', () => {
    expect(at(-0.1)).toEqual({ jump: true });
    expect(at(0).jump).toBe(false);
  });

  it('comes to rest at the target from anywhere', () => {
    for (const start of [0.05, 0.4, 1.2, 2.9, 8]) {
      let [behind, rate] = [start, 1];
      for (let tick = 0; tick < 400; tick += 1) {
        const move = pace({ behind_s: behind, target_s: 0.5, rate, starting: tick < 6 });
        if (move.jump) [behind, rate] = [0.5, 1];
        else rate = move.rate;
        behind += 0.25 * (1 - rate);
      }
      expect(behind, `from ${start}`).toBeGreaterThanOrEqual(0.25);
      expect(behind, `from ${start}`).toBeLessThanOrEqual(0.85);
      expect(rate, `from ${start}`).toBe(1);
    }
  });

  it('keeps more distance after stalls, within bounds', () => {
    expect([0, 1, 2, 1000].map(extraAfter)).toEqual([0, 0.25, 0.5, 2]);
  });
});

describe('retryDelayMs', () => {
  it('doubles up to its bound', () => {
    const delays = [0, 1, 2, 3, 4, 5, 1000].map((attempt) => retryDelayMs(attempt, 0.5));
    expect(delays).toEqual([400, 800, 1600, 3200, 5000, 5000, 5000]);
  });

  it('spreads viewers by a quarter to both sides', () => {
    expect(retryDelayMs(0, 0)).toBe(300);
    expect(retryDelayMs(0, 0.999)).toBe(500);
    for (let i = 0; i < 100; i += 1) expect(retryDelayMs(9)).toBeLessThanOrEqual(6250);
  });
});

describe('view', () => {
  it('believes the picture before the API', () => {
    for (const presence of [null, 'live', 'interrupted', 'absent'] as const) {
      expect(view('playing', presence, true)).toBe('live');
      expect(view('stopped', presence, true)).toBe('stopped');
    }
  });

  it('says why there is no picture', () => {
    expect(view('connecting', null, true)).toBe('connecting');
    expect(view('failed', 'live', true)).toBe('connecting');
    expect(view('stalled', 'live', true)).toBe('buffering');
    expect(view('stalled', 'interrupted', true)).toBe('interrupted');
    expect(view('failed', 'interrupted', true)).toBe('interrupted');
    expect(view('failed', 'absent', true)).toBe('offline');
    expect(view('failed', 'live', false)).toBe('unsupported');
    expect(view('failed', 'absent', false)).toBe('offline');
  });
});

describe('unsupportedCodec', () => {
  const track = (id: string, codec: string, rfc6381: string): Track => ({
    id,
    codec,
    rfc6381,
    width: null,
    height: null,
    sample_rate: null,
    channels: null,
  });
  const avc = (type: string) => type.includes('avc1');

  it('names the picture’s codec if there is no decoder for it', () => {
    expect(unsupportedCodec([track('v0', 'HEVC', 'hvc1.1.6.L93.B0')], avc)).toBe('HEVC');
    expect(unsupportedCodec([track('a0', 'AAC', 'mp4a.40.2'), track('v0', 'H.264', 'avc1.64001f')], avc)).toBe(null);
    expect(unsupportedCodec([track('a0', 'AAC', 'mp4a.40.2')], avc)).toBe(null);
    expect(unsupportedCodec([], avc)).toBe(null);
  });
});
