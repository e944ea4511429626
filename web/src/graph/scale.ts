import type { GraphNode } from '../api/types';
import { KINDS, kindOf, type Kind } from './kinds';

type Counted = 'parameters' | 'multiply_adds' | 'activation';
export type Measure = 'kind' | Counted | 'time';

export const MEASURES: Record<Measure, string> = {
  kind: 'Kind',
  parameters: 'Parameters',
  multiply_adds: 'Multiply-adds',
  activation: 'Activation size',
  time: 'Measured time',
};

/** Cividis, which looks alike with and without color vision. */
const STOPS = ['#00224e', '#123570', '#3b496c', '#575d6d', '#707173', '#8a8678', '#a59c74', '#c3b369', '#e1cc55', '#fee838'];
export const CIVIDIS = `linear-gradient(to right, ${STOPS.join(', ')})`;
export const NOTHING = 'transparent';

/** A color on the scale, for a place from 0 to 1. */
export function cividis(place: number): string {
  const at = Math.min(1, Math.max(0, place)) * (STOPS.length - 1);
  const index = Math.min(STOPS.length - 2, Math.floor(at));
  const [from, to] = [STOPS[index]!, STOPS[index + 1]!].map((hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16)));
  const mixed = from!.map((low, channel) => Math.round(low + (to![channel]! - low) * (at - index)));
  return `rgb(${mixed.join(' ')})`;
}

export interface Scale {
  measure: Measure;
  low: number;
  high: number;
  kinds: Kind[];
  color: (node: GraphNode) => string;
}

/** Seconds of nodes, by their ids. */
export type Times = Readonly<Record<string, number>>;

/** Colors for the nodes that are shown: the scale spans what is there, in logarithms. */
export function scaleOf(measure: Measure, nodes: readonly GraphNode[], times: Times = {}): Scale {
  const present = new Set(nodes.map(kindOf));
  const kinds = (Object.keys(KINDS) as Kind[]).filter((kind) => present.has(kind));
  if (measure === 'kind') return { measure, low: 0, high: 0, kinds, color: (node) => KINDS[kindOf(node)].color };
  const valueOf = (node: GraphNode) => (measure === 'time' ? times[node.id] ?? 0 : node[measure]);
  const values = nodes.map(valueOf).filter((value) => value > 0);
  const [low, high] = values.length > 0 ? [Math.min(...values), Math.max(...values)] : [0, 0];
  const span = Math.log(high) - Math.log(low);
  const color = (node: GraphNode) => {
    const value = valueOf(node);
    return value > 0 ? cividis(span > 0 ? (Math.log(value) - Math.log(low)) / span : 1) : NOTHING;
  };
  return { measure, low, high, kinds, color };
}
