const STEPS: [number, string][] = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

/** 25557032 is "25.6 M". */
export function compact(value: number): string {
  const step = STEPS.find(([size]) => Math.abs(value) >= size);
  if (!step) return String(value);
  const scaled = value / step[0];
  return `${scaled >= 99.95 ? Math.round(scaled) : scaled.toFixed(1).replace(/\.0$/, '')} ${step[1]}`;
}

/** 0.00123 seconds are "1.23 ms". */
export function milliseconds(seconds: number): string {
  const value = seconds * 1000;
  return `${value >= 99.5 ? Math.round(value) : value.toPrecision(value < 0.01 ? 1 : 2)} ms`;
}

/** A shape without its batch of one. */
export function shapeText(shape: readonly number[] | null): string {
  return shape && shape.length > 1 ? shape.slice(1).join(' × ') : '';
}

/** An activation or a score, short and of even width. */
export function short(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size >= 1000 || size < 0.001 ? value.toExponential(1) : value.toPrecision(3);
}

/** A score as captions have it. */
export function four(value: number): string {
  const size = Math.abs(value);
  return size >= 0.1 && size < 1000 ? value.toFixed(3) : short(value);
}

export function percent(value: number): string {
  const hundred = value * 100;
  return hundred > 0 && hundred < 0.1 ? '< 0.1 %' : `${hundred.toFixed(1)} %`;
}
