import type { Box, Line } from './form';

const ROUND = 5;
const TIP = 5;

/** An orthogonal line with rounded corners, as the data of an SVG path. */
export function lineData(points: readonly number[]): string {
  const count = points.length / 2;
  const x = (at: number) => points[2 * at]!;
  const y = (at: number) => points[2 * at + 1]!;
  let data = `M${near(x(0))} ${near(y(0))}`;
  for (let at = 1; at < count - 1; at += 1) {
    const [before, after] = [Math.hypot(x(at) - x(at - 1), y(at) - y(at - 1)), Math.hypot(x(at + 1) - x(at), y(at + 1) - y(at))];
    const turn = Math.min(ROUND, before / 2, after / 2);
    if (turn < 0.5) {
      data += `L${near(x(at))} ${near(y(at))}`;
      continue;
    }
    const [a, b] = [turn / before, turn / after];
    data += `L${near(x(at) + (x(at - 1) - x(at)) * a)} ${near(y(at) + (y(at - 1) - y(at)) * a)}`;
    data += `Q${near(x(at))} ${near(y(at))} ${near(x(at) + (x(at + 1) - x(at)) * b)} ${near(y(at) + (y(at + 1) - y(at)) * b)}`;
  }
  return `${data}L${near(x(count - 1))} ${near(y(count - 1))}`;
}

/** The tip of an arrow at the end of a line. */
export function tipData(points: readonly number[]): string {
  const [px, py, x, y] = points.slice(-4) as [number, number, number, number];
  const length = Math.hypot(x - px, y - py) || 1;
  const [dx, dy] = [((x - px) / length) * TIP, ((y - py) / length) * TIP];
  return `M${near(x)} ${near(y)}L${near(x - dx - dy * 0.6)} ${near(y - dy + dx * 0.6)}L${near(x - dx + dy * 0.6)} ${near(y - dy - dx * 0.6)}Z`;
}

export function rectData(box: Box): string {
  return `M${near(box.x)} ${near(box.y)}h${near(box.width)}v${near(box.height)}h${near(-box.width)}Z`;
}

/** All lines in two paths: two elements are drawn in one go where thousands would hold the page up. */
export function inOne(lines: readonly Line[]): { lines: string; tips: string } {
  return {
    lines: lines.map((line) => lineData(line.points)).join(''),
    tips: lines.filter((line) => line.arrow).map((line) => tipData(line.points)).join(''),
  };
}

function near(value: number): number {
  return Math.round(value * 10) / 10;
}
