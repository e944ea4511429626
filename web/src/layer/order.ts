/** The channels of a point by number; by their values, the largest first, where there are any. */
export function ordered(units: number, values: readonly number[] | undefined): number[] {
  const all = Array.from({ length: units }, (_, unit) => unit);
  return values ? all.sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0)) : all;
}

/** Which channel comes so many after one, in the order of a list that begins again at its end. */
export function beside(order: readonly number[], unit: number, by: number): number {
  return order[(order.indexOf(unit) + by + order.length) % order.length] ?? unit;
}
