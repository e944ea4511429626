import type { Edge, GraphNode } from '../api/types';

/** The modules of a network, nested as they are written, in the order in which they compute. */
export interface Tree {
  nodes: ReadonlyMap<string, GraphNode>;
  /** By the id of the enclosing container; "" holds the top. */
  children: ReadonlyMap<string, readonly string[]>;
  /** Where a node stands in the order of computation; a container stands where its first node does. */
  order: ReadonlyMap<string, number>;
  edges: readonly Edge[];
}

const NONE: readonly string[] = [];

export function treeOf(nodes: readonly GraphNode[], edges: readonly Edge[]): Tree {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const known = edges.filter(([from, to]) => byId.has(from) && byId.has(to));
  const order = ordered(nodes, known, byId);
  const children = new Map<string, string[]>();
  for (const node of nodes) {
    // A parent that is not listed would hide its children forever.
    const parent = byId.has(node.parent) ? node.parent : '';
    const held = children.get(parent);
    if (held) held.push(node.id);
    else children.set(parent, [node.id]);
  }
  for (const held of children.values()) held.sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
  return { nodes: byId, children, order, edges: known };
}

function ordered(nodes: readonly GraphNode[], edges: readonly Edge[], byId: ReadonlyMap<string, GraphNode>) {
  const next = new Map<string, string[]>();
  const waiting = new Map<string, number>();
  for (const [from, to] of edges) {
    const held = next.get(from);
    if (held) held.push(to);
    else next.set(from, [to]);
    waiting.set(to, (waiting.get(to) ?? 0) + 1);
  }
  const order = new Map<string, number>();
  const ready = nodes.filter((node) => !node.container && !waiting.has(node.id)).map((node) => node.id);
  for (let at = 0; at < ready.length; at += 1) {
    const id = ready[at]!;
    order.set(id, at);
    for (const to of next.get(id) ?? NONE) {
      const left = (waiting.get(to) ?? 1) - 1;
      waiting.set(to, left);
      if (left === 0) ready.push(to);
    }
  }
  // A cycle cannot come from an export, but a page must not lose nodes over one.
  for (const node of nodes) if (!node.container && !order.has(node.id)) order.set(node.id, order.size);
  const given = new Map(nodes.map((node, index) => [node.id, index]));
  for (const node of nodes) {
    const at = order.get(node.id);
    if (node.container || at === undefined) continue;
    for (let up = byId.get(node.parent); up; up = byId.get(up.parent)) {
      const held = order.get(up.id);
      if (held === undefined || at < held) order.set(up.id, at);
    }
  }
  for (const node of nodes) if (!order.has(node.id)) order.set(node.id, given.get(node.id) ?? 0);
  return order;
}

export function childrenOf(tree: Tree, id: string): readonly string[] {
  return tree.children.get(id) ?? NONE;
}

/** What encloses a node, outermost first, without the node. */
export function ancestorsOf(tree: Tree, id: string): string[] {
  const found: string[] = [];
  for (let up = tree.nodes.get(tree.nodes.get(id)?.parent ?? ''); up; up = tree.nodes.get(up.parent)) found.unshift(up.id);
  return found;
}

export function isWithin(tree: Tree, id: string, container: string): boolean {
  return id === container || ancestorsOf(tree, id).includes(container);
}
