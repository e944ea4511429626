import type { GraphNode } from '../api/types';

const MOST = 30;

/** The nodes that a query may mean, best first: by address, by name, by class. */
export function search(nodes: Iterable<GraphNode>, query: string): GraphNode[] {
  const wanted = query.trim().toLowerCase();
  if (!wanted) return [];
  const found: { node: GraphNode; score: number }[] = [];
  for (const node of nodes) {
    const score = scoreOf(node, wanted);
    if (score !== null) found.push({ node, score });
  }
  found.sort((a, b) => a.score - b.score || a.node.id.length - b.node.id.length || a.node.id.localeCompare(b.node.id));
  return found.slice(0, MOST).map(({ node }) => node);
}

function scoreOf(node: GraphNode, wanted: string): number | null {
  const [id, label, module] = [node.id.toLowerCase(), node.label.toLowerCase(), node.module.toLowerCase()];
  if (id === wanted) return 0;
  if (label === wanted) return 1;
  if (id.startsWith(wanted)) return 2;
  if (label.startsWith(wanted)) return 3;
  if (module === wanted) return 4;
  if (id.split('.').some((part) => part.startsWith(wanted))) return 5;
  if (module.startsWith(wanted)) return 6;
  if (id.includes(wanted) || module.includes(wanted)) return 7;
  return scattered(id, wanted) ? 8 : null;
}

/** "l31c2" means layer3.1.conv2. */
function scattered(text: string, wanted: string): boolean {
  let at = 0;
  for (const letter of text) if (letter === wanted[at]) at += 1;
  return wanted.length > 1 && at === wanted.length;
}
