export const WIDTH = 300;
export const HEIGHT = 100;

/** The path of probabilities over the passes of an attack. */
export function lineOf(passes: readonly number[], probabilities: readonly number[]): string {
  const last = Math.max(1, passes.at(-1) ?? 1);
  return passes
    .map((pass, index) => `${index === 0 ? 'M' : 'L'}${((WIDTH * pass) / last).toFixed(1)} ${(HEIGHT * (1 - (probabilities[index] ?? 0))).toFixed(1)}`)
    .join('');
}
