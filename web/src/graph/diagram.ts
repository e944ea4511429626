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
  for (const edge of tree.edges) {
    for (const [around, from, to] of partsOf(tree, edge)) {
      const diagram = found.get(around);
      if (diagram) add(diagram, from, to);
    }
  }
  return found;
}

/** The parts of an edge, each with the diagram that it is drawn in where that is shown. */
function partsOf(tree: Tree, [from, to]: Edge): [around: string, from: string, to: string][] {
  const [left, right] = [chainOf(tree, from), chainOf(tree, to)];
  let at = 0;
  while (left[at] === right[at] && at < left.length - 1 && at < right.length - 1) at += 1;
  if (left[at] === right[at]) return [];
  const found: [string, string, string][] = [[at === 0 ? '' : left[at - 1]!, left[at]!, right[at]!]];
  for (let deep = at; deep < left.length - 1; deep += 1) found.push([left[deep]!, left[deep + 1]!, OUTLET]);
  for (let deep = at; deep < right.length - 1; deep += 1) found.push([right[deep]!, INLET, right[deep + 1]!]);
  return found;
}

const chains = new WeakMap<Tree, Map<string, string[]>>();

/** A node after all that it is in, the outermost first. */
function chainOf(tree: Tree, id: string): string[] {
  let all = chains.get(tree);
  if (!all) chains.set(tree, (all = new Map()));
  let held = all.get(id);
  if (!held) {
    held = [id];
    for (let up = tree.nodes.get(id)?.parent; up && tree.nodes.has(up); up = tree.nodes.get(up)?.parent) held.unshift(up);
    all.set(id, held);
  }
  return held;
}

/** What tells one drawn line from all others. */
export const lineKey = (from: string, to: string): string => `${from}\n${to}`;

/** The lines on the ways into and out of a node, through the borders of all groups, as far as what they connect. */
export function waysOf(tree: Tree, id: string): Set<string> {
  const found = new Set<string>();
  for (const edge of tree.edges) {
    const [left, right] = edge.map((end) => chainOf(tree, end).includes(id)) as [boolean, boolean];
    if (left === right) continue;
    for (const [around, from, to] of partsOf(tree, edge)) {
      // What is inside of the node itself is no way to it.
      if (around !== '' && chainOf(tree, around).includes(id)) continue;
      found.add(lineKey(from, to));
      if (to === OUTLET) found.add(lineKey(OUTLET, around));
      if (from === INLET) found.add(lineKey(around, INLET));
    }
  }
  return found;
}
