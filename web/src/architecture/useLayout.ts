import { useEffect, useState } from 'react';
import type { Unfolded } from '../graph/fold';
import type { Direction, Layout, Sizes } from '../graph/form';
import { layOut, type Cache } from '../graph/layout';
import type { Tree } from '../graph/tree';
import { runElk } from './elk';

const SIZES: Omit<Sizes, 'header'> = { node: { width: 208, height: 32 } };
/** A letter of a group's name, on the average. */
const LETTER = 7.2;
const SLOW = 150;

const cache: Cache = new Map();

export interface LaidOut {
  layout: Layout;
  tree: Tree;
  unfolded: Unfolded;
  direction: Direction;
}

/** The layout of what is shown, the last one until the next is there, and whether one takes long. */
export function useLayout(tree: Tree, unfolded: Unfolded, direction: Direction): { laid: LaidOut | null; slow: boolean; failed: string | null } {
  const [laid, setLaid] = useState<LaidOut | null>(null);
  const [slow, setSlow] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);

  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => setSlow(true), SLOW);
    // Edges enter in the middle: the name stands to the left of them, the class to the right.
    const header = (id: string) => {
      const node = tree.nodes.get(id);
      return Math.round(80 + 2 * LETTER * Math.max(node?.label.length ?? 0, 0.9 * (node?.module.length ?? 0)));
    };
    layOut(tree, unfolded, direction, { ...SIZES, header }, runElk, cache)
      .then(
        (layout) => {
          if (!current) return;
          setLaid({ layout, tree, unfolded, direction });
          setFailed(null);
        },
        (error: unknown) => {
          if (current) setFailed(error instanceof Error ? error.message : String(error));
        },
      )
      .finally(() => {
        clearTimeout(timer);
        if (current) setSlow(false);
      });
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [tree, unfolded, direction]);

  return { laid, slow, failed };
}
