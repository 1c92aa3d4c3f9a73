// A line through values, as an SVG path.

/** At most the newest `length` values, from the left edge on; the greatest touches the top. */
export function sparkline(values: readonly number[], length: number, width: number, height: number): string {
  const shown = values.slice(-length);
  if (shown.length < 2) return '';
  const top = Math.max(...shown, 1);
  const step = width / (length - 1);
  const points = shown.map((value, i) => {
    const y = height - 1 - (Math.max(0, value) / top) * (height - 2);
    return `${(i * step).toFixed(1)} ${y.toFixed(1)}`;
  });
  return `M${points.join('L')}`;
}
