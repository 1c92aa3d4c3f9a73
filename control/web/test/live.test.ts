import { describe, expect, it } from 'vitest';
import type { Stream } from '../src/api/types';
import { HISTORY_LENGTH, remember, type History } from '../src/live/history';
import { sparkline } from '../src/ui/sparkline';

describe('remember', () => {
  const stream = (name: string, bitrate_bps: number) => ({ app: 'live', name, bitrate_bps }) as Stream;

  it('keeps a minute of what is live and nothing of what is not', () => {
    const history: History = new Map();
    for (let i = 0; i < 2 * HISTORY_LENGTH; i += 1) remember(history, [stream('a', i), stream('b', 0)]);
    expect(history.get('live/a')).toHaveLength(HISTORY_LENGTH);
    expect(history.get('live/a')?.at(-1)).toBe(2 * HISTORY_LENGTH - 1);
    remember(history, [stream('b', 0)]);
    expect([...history.keys()]).toEqual(['live/b']);
  });
});

describe('sparkline', () => {
  it('needs two values', () => {
    expect(sparkline([], 10, 100, 20)).toBe('');
    expect(sparkline([5], 10, 100, 20)).toBe('');
  });

  it('grows from the left and reaches the top', () => {
    expect(sparkline([0, 5, 10], 5, 100, 20)).toBe('M0.0 19.0L25.0 10.0L50.0 1.0');
  });

  it('shows no more than asked for, and nothing below zero', () => {
    expect(sparkline([9, 0, -3], 2, 100, 20)).toBe('M0.0 19.0L100.0 19.0');
  });
});
