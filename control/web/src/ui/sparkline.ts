// A line through values, as SVG paths.

export interface Paths {
  line: string;
  area: string;
}

/** The newest of at most `length` values stands at the right edge; the greatest touches the top. */
export function sparkline(values: readonly number[], length: number, width: number, height: number): Paths {
  if (values.length < 2) return { line: '', area: '' };
  const top = Math.max(...values, 1);
  const step = width / (length - 1);
  const shown = values.slice(-length);
  const first = width - (shown.length - 1) * step;
  const points = shown.map((value, i) => {
    const x = first + i * step;
    const y = height - 1 - (value / top) * (height - 2);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  const line = `M${points.join('L')}`;
  return { line, area: `${line}L${width} ${height}L${first.toFixed(1)} ${height}Z` };
}
