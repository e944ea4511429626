import { ancestorsOf, childrenOf, type Tree } from './tree';

/** The containers that are open. A container counts as unfolded only where all that enclose it are. */
export type Unfolded = ReadonlySet<string>;

export interface Shown {
  id: string;
  /** Unfolded: drawn around its children. */
  group: boolean;
  depth: number;
}

/** How many nodes still fit one screen. */
export const BUDGET = 24;
/** A container with this share of its siblings' work is what the network is: its inside is shown at once. */
const MOST = 0.6;

/** What is on the screen, each container before its children. */
export function shownOf(tree: Tree, unfolded: Unfolded): Shown[] {
  const found: Shown[] = [];
  const enter = (ids: readonly string[], depth: number) => {
    for (const id of ids) {
      const group = unfolded.has(id) && childrenOf(tree, id).length > 0;
      found.push({ id, group, depth });
      if (group) enter(childrenOf(tree, id), depth + 1);
    }
  };
  enter(childrenOf(tree, ''), 0);
  return found;
}

/**
 * What to unfold first so that the whole network fits one screen.
 *
 * All containers of one level are opened together, or none: a single open block among its like would say that it is
 * different. Only a container that does most of the work of its level is opened alone.
 */
export function initialFold(tree: Tree, budget: number = BUDGET): Set<string> {
  const unfolded = new Set<string>();
  let level = [...childrenOf(tree, '')];
  let count = level.length;
  while (level.length > 0) {
    const containers = level.filter((id) => childrenOf(tree, id).length > 0);
    const all = containers.reduce((sum, id) => sum + childrenOf(tree, id).length, 0);
    const chosen = count + all <= budget ? containers : mostOf(tree, level, containers, budget - count);
    for (const id of chosen) unfolded.add(id);
    level = chosen.flatMap((id) => [...childrenOf(tree, id)]);
    count += level.length;
  }
  return unfolded;
}

function mostOf(tree: Tree, level: readonly string[], containers: readonly string[], left: number): string[] {
  const work = (id: string) => tree.nodes.get(id)?.multiply_adds ?? 0;
  const whole = level.reduce((sum, id) => sum + work(id), 0);
  return containers.filter((id) => whole > 0 && work(id) >= MOST * whole && childrenOf(tree, id).length <= left);
}

export function unfold(unfolded: Unfolded, id: string): Set<string> {
  return new Set(unfolded).add(id);
}

/** Folds a container and forgets what was open inside, so that it opens to something that fits again. */
export function fold(tree: Tree, unfolded: Unfolded, id: string): Set<string> {
  return new Set([...unfolded].filter((each) => each !== id && !ancestorsOf(tree, each).includes(id)));
}

/** Opens what encloses a node. */
export function reveal(tree: Tree, unfolded: Unfolded, id: string): Unfolded {
  const around = ancestorsOf(tree, id);
  return around.every((each) => unfolded.has(each)) ? unfolded : new Set([...unfolded, ...around]);
}

export function everything(tree: Tree): Set<string> {
  return new Set([...tree.nodes.keys()].filter((id) => childrenOf(tree, id).length > 0));
}
