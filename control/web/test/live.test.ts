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
    expect(sparkline([], 10, 100, 20)).toEqual({ line: '', area: '' });
    expect(sparkline([5], 10, 100, 20)).toEqual({ line: '', area: '' });
  });

  it('stands at the right edge and reaches the top', () => {
    expect(sparkline([0, 5, 10], 5, 100, 20).line).toBe('M50.0 19.0L75.0 10.0L100.0 1.0');
  });

  it('shows no more than asked for, and zeros as a flat line', () => {
    expect(sparkline([9, 0, 0], 2, 100, 20).line).toBe('M0.0 19.0L100.0 19.0');
  });
});
