import ELK from 'elkjs/lib/elk.bundled.js';
import { describe, expect, it, vi } from 'vitest';
import type { Edge } from '../src/api/types';
import { everything } from '../src/graph/fold';
import type { Box } from '../src/graph/form';
import { layOut, type Elk, type Run } from '../src/graph/layout';
import { lineData, tipData } from '../src/graph/paths';
import { treeOf } from '../src/graph/tree';
import { lift } from '../src/graph/lift';
import { walk } from '../src/graph/walk';
import { node, residual } from './networks';

const elk = new ELK();
const run: Run = (graph) => elk.layout(graph as never) as unknown as Promise<Elk>;
const sizes = { node: { width: 100, height: 30 }, header: () => 80 };
const tree = residual();

function inside(inner: Box, outer: Box): boolean {
  return inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width && inner.y + inner.height <= outer.y + outer.height;
}

/** Whether a line passes under a box, at its ends aside. */
function under(points: readonly number[], box: Box): boolean {
  for (let at = 0; at + 3 < points.length; at += 2) {
    const [x1, y1, x2, y2] = points.slice(at, at + 4) as [number, number, number, number];
    const apart = Math.max(x1, x2) <= box.x + 1 || Math.min(x1, x2) >= box.x + box.width - 1 || Math.max(y1, y2) <= box.y + 1 || Math.min(y1, y2) >= box.y + box.height - 1;
    if (!apart) return true;
  }
  return false;
}

describe.each(['down', 'right'] as const)('layout, %s', (direction) => {
  it('puts children into their groups, and no line under a node', async () => {
    const { boxes, lines } = await layOut(tree, everything(tree), direction, sizes, run, new Map());
    const byId = new Map(boxes.map((box) => [box.id, box]));
    for (const box of boxes) {
      const parent = byId.get(tree.nodes.get(box.id)!.parent);
      if (parent) expect(inside(box, parent)).toBe(true);
    }
    for (const line of lines) for (const box of boxes) if (!box.group) expect(under(line.points, box)).toBe(false);
  });
});

describe('layout', () => {
  it('lays out like blocks once, and what was laid out not again', async () => {
    const counted = vi.fn(run);
    const cache = new Map();
    await layOut(tree, everything(tree), 'down', sizes, counted, cache);
    expect(counted).toHaveBeenCalledTimes(3);
    await layOut(tree, everything(tree), 'down', sizes, counted, cache);
    expect(counted).toHaveBeenCalledTimes(3);
  });
  it('draws dense blocks as a bus, at once', async () => {
    const ids = Array.from({ length: 30 }, (_, index) => `n${index}`);
    const edges = ids.flatMap((to, at) => ids.slice(0, at).map((from): Edge => [from, to]));
    const counted = vi.fn(run);
    const { boxes, lines } = await layOut(treeOf(ids.map((id) => node(id)), edges), new Set(), 'down', sizes, counted, new Map());
    expect(counted).not.toHaveBeenCalled();
    expect(lines).toHaveLength(edges.length);
    for (const line of lines) for (const box of boxes) expect(under(line.points, box)).toBe(false);
  });
  it('gives a failed layout another try', async () => {
    const cache = new Map();
    const broken: Run = () => Promise.reject(new Error('no'));
    await expect(layOut(tree, new Set(), 'down', sizes, broken, cache)).rejects.toThrow('no');
    await expect(layOut(tree, new Set(), 'down', sizes, run, cache)).resolves.toBeDefined();
  });
});

describe('keys', () => {
  it('follow edges, and fall back to neighbors', async () => {
    const open = new Set(['stage']);
    const { boxes } = await layOut(tree, open, 'down', sizes, run, new Map());
    const edges = lift(tree, open);
    expect(walk('input', 'ArrowDown', boxes, edges, 'down')).toBe('conv');
    expect(walk('stage.0', 'ArrowUp', boxes, edges, 'down')).toBe('conv');
    expect(walk('stage', 'ArrowDown', boxes, edges, 'down')).toBe('stage.0');
    expect(walk('input', 'ArrowUp', boxes, edges, 'down')).toBeNull();
  });
});

describe('paths', () => {
  it('rounds corners and ends in a tip', () => {
    expect(lineData([0, 0, 0, 20, 20, 20])).toBe('M0 0L0 15Q0 20 5 20L20 20');
    expect(tipData([0, 0, 0, 20])).toContain('M0 20');
  });
});
