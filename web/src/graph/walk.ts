import type { Edge } from '../api/types';
import type { Box, Direction } from './form';

export type Arrow = 'ArrowUp' | 'ArrowDown' | 'ArrowLeft' | 'ArrowRight';

/** Where an arrow key leads: along an edge in the direction of computation, else to a neighbor on the screen. */
export function walk(from: string, arrow: Arrow, boxes: readonly Box[], edges: readonly Edge[], direction: Direction): string | null {
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const here = byId.get(from);
  if (!here) return null;
  const [on, back] = direction === 'down' ? ['ArrowDown', 'ArrowUp'] : ['ArrowRight', 'ArrowLeft'];
  if (arrow === on || arrow === back) {
    const ends = edges.flatMap(([a, b]) => (arrow === on && a === from ? [b] : arrow === back && b === from ? [a] : []));
    const next = ends.map((id) => byId.get(id)).filter((box) => box !== undefined);
    if (next.length > 0) return nearest(here, next, direction);
  }
  const leaves = boxes.filter((box) => box.id !== from && ahead(here, box, arrow));
  return leaves.length > 0 ? nearest(here, leaves, arrow === 'ArrowUp' || arrow === 'ArrowDown' ? 'down' : 'right') : null;
}

function ahead(here: Box, box: Box, arrow: Arrow): boolean {
  if (arrow === 'ArrowDown') return box.y > here.y + 1 && overlaps(here.x, here.width, box.x, box.width);
  if (arrow === 'ArrowUp') return box.y < here.y - 1 && overlaps(here.x, here.width, box.x, box.width);
  if (arrow === 'ArrowRight') return box.x > here.x + 1 && overlaps(here.y, here.height, box.y, box.height);
  return box.x < here.x - 1 && overlaps(here.y, here.height, box.y, box.height);
}

function overlaps(a: number, along: number, b: number, length: number): boolean {
  return a < b + length && b < a + along;
}

function nearest(here: Box, boxes: readonly Box[], direction: Direction): string {
  const away = (box: Box) => {
    const [x, y] = [middle(box.x, box.width) - middle(here.x, here.width), middle(box.y, box.height) - middle(here.y, here.height)];
    // A step straight on is nearer than one aside.
    return direction === 'down' ? Math.abs(y) + 2 * Math.abs(x) : Math.abs(x) + 2 * Math.abs(y);
  };
  return boxes.reduce((best, box) => (away(box) < away(best) ? box : best)).id;
}

function middle(start: number, length: number): number {
  return start + length / 2;
}
