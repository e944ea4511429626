/** The channels of a point by number; by their values, the largest first, where there are any. */
export function ordered(units: number, values: readonly number[] | undefined): number[] {
  const all = Array.from({ length: units }, (_, unit) => unit);
  return values ? all.sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0)) : all;
}
