import type { Edge } from '../api/types';
import type { Unfolded } from './fold';
import { shownOf } from './fold';
import { childrenOf, type Tree } from './tree';

/** The inside of one container as it is drawn: its children, and what runs between them. */
export interface Diagram {
  id: string;
  children: readonly string[];
  edges: Edge[];
  inlet: boolean;
  outlet: boolean;
}

/** Where edges enter a group, and where they leave it, as ends of its inner edges. */
export const INLET = '\u0000in';
export const OUTLET = '\u0000out';

/**
 * One diagram for the top and for each unfolded container.
 *
 * An edge is drawn where both its ends are children of the same container. Where an end lies deeper, inside an unfolded
 * group, the group's own diagram goes on with it from an inlet or to an outlet. So each diagram can be laid out alone,
 * which keeps networks of thousands of edges fast, and the bypass of a residual block starts at the block's own inlet.
 */
export function diagramsOf(tree: Tree, unfolded: Unfolded): Map<string, Diagram> {
  const found = new Map<string, Diagram>();
  const start = (id: string) => {
    found.set(id, { id, children: childrenOf(tree, id), edges: [], inlet: false, outlet: false });
  };
  start('');
  for (const each of shownOf(tree, unfolded)) if (each.group) start(each.id);

  const seen = new Set<string>();
  const add = (diagram: Diagram, from: string, to: string) => {
    const key = `${diagram.id}\n${from}\n${to}`;
    if (seen.has(key)) return;
    seen.add(key);
    diagram.edges.push([from, to]);
    diagram.inlet ||= from === INLET;
    diagram.outlet ||= to === OUTLET;
  };
  const chains = new Map<string, string[]>();
  const chainOf = (id: string) => {
    let held = chains.get(id);
    if (!held) {
      held = [id];
      for (let up = tree.nodes.get(id)?.parent; up && tree.nodes.has(up); up = tree.nodes.get(up)?.parent) held.unshift(up);
      chains.set(id, held);
    }
    return held;
  };
  for (const [from, to] of tree.edges) {
    const left = chainOf(from);
    const right = chainOf(to);
    let at = 0;
    while (left[at] === right[at] && at < left.length - 1 && at < right.length - 1) at += 1;
    const around = at === 0 ? '' : left[at - 1]!;
    const diagram = found.get(around);
    if (!diagram || left[at] === right[at]) continue;
    add(diagram, left[at]!, right[at]!);
    for (let deep = at; deep < left.length - 1; deep += 1) {
      const inner = found.get(left[deep]!);
      if (!inner) break;
      add(inner, left[deep + 1]!, OUTLET);
    }
    for (let deep = at; deep < right.length - 1; deep += 1) {
      const inner = found.get(right[deep]!);
      if (!inner) break;
      add(inner, INLET, right[deep + 1]!);
    }
  }
  return found;
}
