import type { Edge } from '../api/types';
import type { Unfolded } from './fold';
import { ancestorsOf, type Tree } from './tree';

/** What stands for a node on the screen: its outermost folded container, or itself. */
export function standsFor(tree: Tree, unfolded: Unfolded, id: string): string {
  return ancestorsOf(tree, id).find((each) => !unfolded.has(each)) ?? id;
}

/** The edges between what is on the screen: each once, and none from a node to itself. */
export function lift(tree: Tree, unfolded: Unfolded): Edge[] {
  const stands = new Map<string, string>();
  const of = (id: string) => {
    let held = stands.get(id);
    if (held === undefined) {
      held = standsFor(tree, unfolded, id);
      stands.set(id, held);
    }
    return held;
  };
  const seen = new Set<string>();
  const found: Edge[] = [];
  for (const [from, to] of tree.edges) {
    const edge: Edge = [of(from), of(to)];
    const key = `${edge[0]}\n${edge[1]}`;
    if (edge[0] === edge[1] || seen.has(key)) continue;
    seen.add(key);
    found.push(edge);
  }
  return found;
}
