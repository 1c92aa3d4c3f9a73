import { describe, expect, it } from 'vitest';
import { cameInAt, cameInAtRtp, latencyMs, offsetOf } from '../src/player/latency';

describe('offsetOf', () => {
  it('believes the fastest answer', () => {
    const samples = [
      { asked_ms: 0, answered_ms: 400, server_ms: 5399 },
      { asked_ms: 1000, answered_ms: 1020, server_ms: 6010 },
      { asked_ms: 2000, answered_ms: 2100, server_ms: 7099 },
    ];
    expect(offsetOf(samples)).toBe(5000);
  });

  it('takes the clocks to agree where nothing is known', () => {
    expect(offsetOf([])).toBe(0);
  });
});

describe('cameInAt', () => {
  const clock = { media_ms: 90_000, wall_ms: 1_000_000 };

  it('counts from a frame whose time is known, before or after it', () => {
    expect(cameInAt(90_000, clock)).toBe(1_000_000);
    expect(cameInAt(91_500, clock)).toBe(1_001_500);
    expect(cameInAt(88_000, clock)).toBe(998_000);
  });

  it('survives timestamps that wrap between the two', () => {
    expect(cameInAt(200, { media_ms: 2 ** 32 - 300, wall_ms: 1_000_000 })).toBe(1_000_500);
    expect(cameInAt(2 ** 32 - 300, { media_ms: 200, wall_ms: 1_000_000 })).toBe(999_500);
  });

  it('is tied anew when a publisher came back and the timeline moved against the clock', () => {
    const position = 100_000;
    const before = latencyMs(cameInAt(position, clock), 1_011_000, 0);
    const after = latencyMs(cameInAt(position, { media_ms: 99_000, wall_ms: 1_029_500 }), 1_031_000, 0);
    expect([before, after]).toEqual([1000, 500]);
  });
});

describe('cameInAtRtp', () => {
  it('counts in ticks of RTP, which wrap sooner', () => {
    const clock = { media_ms: 90_000, wall_ms: 1_000_000 };
    expect(cameInAtRtp(90_020 * 90, clock)).toBe(1_000_020);
    // 2 ** 32 ticks are 13 hours and a quarter.
    const late = { media_ms: 47_721_900, wall_ms: 1_000_000 };
    expect(cameInAtRtp((47_721_940 * 90) % 2 ** 32, late)).toBeCloseTo(1_000_040, 3);
    expect(cameInAtRtp((47_721_800 * 90) % 2 ** 32, late)).toBeCloseTo(999_900, 3);
  });
});

it('latency is corrected for a clock that is wrong', () => {
  expect(latencyMs(1_000_000, 1_000_800, 0)).toBe(800);
  expect(latencyMs(1_000_000, 940_800, 60_000)).toBe(800);
});
