import type { Edge, GraphNode } from '../src/api/types';
import { treeOf, type Tree } from '../src/graph/tree';

export function node(id: string, more: Partial<GraphNode> = {}): GraphNode {
  const at = id.lastIndexOf('.');
  return {
    id, parent: at < 0 ? '' : id.slice(0, at), label: id.slice(at + 1), kind: 'module', container: false, point: true, module: 'Conv2d',
    shape: [1, 8, 4, 4], units: 8, grid: [4, 4], parameters: 10, multiply_adds: 100, activation: 128, note: '', ...more,
  };
}

/** An image, a convolution, two residual blocks in a stage, and a classifier. */
export function residual(): Tree {
  const nodes = [
    node('fc', { module: 'Linear' }),
    node('stage', { container: true, module: 'Sequential', multiply_adds: 800 }),
    ...['stage.0', 'stage.1'].flatMap((id) => [
      node(`${id}.add`, { kind: 'operation', module: 'add' }),
      node(`${id}.conv1`),
      node(`${id}.conv2`),
      node(id, { container: true, module: 'Block', multiply_adds: 400 }),
    ]),
    node('conv'),
    node('input', { kind: 'input', point: false, module: '' }),
  ];
  const edges: Edge[] = [['input', 'conv']];
  let last = 'conv';
  for (const id of ['stage.0', 'stage.1']) {
    edges.push([last, `${id}.conv1`], [`${id}.conv1`, `${id}.conv2`], [`${id}.conv2`, `${id}.add`], [last, `${id}.add`]);
    last = `${id}.add`;
  }
  edges.push([last, 'fc']);
  return treeOf(nodes, edges);
}
