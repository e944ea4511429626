import type { Edge } from '../api/types';

export type Direction = 'down' | 'right';

export interface Box {
  id: string;
  x: number;
  y: number;
  width: number;
  height: number;
  group: boolean;
}

export interface Line {
  from: string;
  to: string;
  /** x and y in turn. */
  points: number[];
  /** Ends at a node, not at the border of a group, where it goes on inside. */
  arrow: boolean;
}

export interface Layout {
  width: number;
  height: number;
  boxes: Box[];
  lines: Line[];
}

/** A diagram in its own coordinates, with the place where edges enter and leave it along its border. */
export interface Placed extends Layout {
  inlet: number;
  outlet: number;
}

export interface Sizes {
  node: { width: number; height: number };
  /** How wide a group has to be at least, for its name. */
  header: (id: string) => number;
}

/** A diagram without names: children and ends of edges are places in the list of children. */
export interface Form {
  header: number;
  children: (Pick<Placed, 'width' | 'height' | 'inlet' | 'outlet'> | null)[];
  edges: Edge[];
  inlet: boolean;
  outlet: boolean;
}

/** Room for a group's name, and around what is inside. */
export const HEADER = 30;
export const PAD = 14;
