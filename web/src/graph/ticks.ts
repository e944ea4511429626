export interface Tick {
  value: number;
  /** From 0 to 1. */
  at: number;
}

/** No two ticks are nearer to one another than this share of the axis. */
const APART = 0.14;

/** Where 0 and the powers of ten lie on an axis of bins that are drawn equally wide. */
export function ticksOf(edges: readonly number[]): Tick[] {
  const bins = edges.length - 1;
  if (bins < 1) return [];
  const [low, high] = [edges[0]!, edges[bins]!];
  const powers = Array.from({ length: 10 }, (_, index) => Number(`1e${index - 3}`));
  const found: Tick[] = [];
  for (const value of [0, ...powers, ...powers.map((each) => -each)]) {
    if (value < low || value > high) continue;
    const bin = Math.min(bins - 1, edges.findLastIndex((edge) => edge <= value));
    const [from, to] = [edges[bin]!, edges[bin + 1]!];
    const at = (bin + (to > from ? (value - from) / (to - from) : 0)) / bins;
    if (found.every((tick) => Math.abs(tick.at - at) >= APART)) found.push({ value, at });
  }
  return found.sort((a, b) => a.at - b.at);
}
