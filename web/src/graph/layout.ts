import type { Edge } from '../api/types';
import { busLayout, isDense } from './bus';
import { diagramsOf, INLET, OUTLET, type Diagram } from './diagram';
import type { Unfolded } from './fold';
import { HEADER, PAD, type Box, type Direction, type Form, type Layout, type Line, type Placed, type Sizes } from './form';
import type { Tree } from './tree';

export interface Elk {
  id: string;
  x?: number;
  y?: number;
  width?: number;
  height?: number;
  layoutOptions?: Record<string, string>;
  ports?: Elk[];
  children?: Elk[];
  edges?: ElkEdge[];
}

export interface ElkEdge {
  id: string;
  sources: string[];
  targets: string[];
  sections?: { startPoint: Point; endPoint: Point; bendPoints?: Point[] }[];
}

interface Point {
  x: number;
  y: number;
}

export type Run = (graph: Elk) => Promise<Elk>;

/** Diagrams that were laid out, by their form. */
export type Cache = Map<string, Promise<Placed>>;

/**
 * Lays out what is shown.
 *
 * Diagrams are laid out one by one, from the inside, and by form, not by name: the many like blocks of a network are
 * laid out once.
 */
export async function layOut(tree: Tree, unfolded: Unfolded, direction: Direction, sizes: Sizes, run: Run, cache: Cache): Promise<Layout> {
  const diagrams = diagramsOf(tree, unfolded);

  const place = async (diagram: Diagram): Promise<Placed> => {
    const inner = new Map<string, Placed>();
    await Promise.all(
      diagram.children.map(async (id) => {
        const group = diagrams.get(id);
        if (group) inner.set(id, await place(group));
      }),
    );
    const form = formOf(diagram, inner, diagram.id === '' ? 0 : sizes.header(diagram.id));
    const key = JSON.stringify([direction, form]);
    let alone = cache.get(key);
    if (!alone) {
      alone = isDense(form)
        ? Promise.resolve(busLayout(form, direction, sizes))
        : run(graphOf(form, direction, sizes)).then((result) => placedOf(result, form, direction));
      alone.catch(() => cache.delete(key));
      cache.set(key, alone);
    }
    return joined(named(await alone, diagram), inner);
  };
  return place(diagrams.get('')!);
}

function formOf(diagram: Diagram, inner: ReadonlyMap<string, Placed>, header: number): Form {
  const places = new Map(diagram.children.map((id, index) => [id, String(index)]));
  const placeOf = (id: string) => places.get(id) ?? id;
  return {
    header,
    children: diagram.children.map((id) => {
      const group = inner.get(id);
      return group ? { width: group.width, height: group.height, inlet: group.inlet, outlet: group.outlet } : null;
    }),
    edges: diagram.edges.map(([from, to]): Edge => [placeOf(from), placeOf(to)]),
    inlet: diagram.inlet,
    outlet: diagram.outlet,
  };
}

function named(placed: Placed, diagram: Diagram): Placed {
  const name = (place: string) => (place === '' ? diagram.id : (diagram.children[Number(place)] ?? place));
  return {
    ...placed,
    boxes: placed.boxes.map((box) => ({ ...box, id: name(box.id) })),
    lines: placed.lines.map((line) => ({ ...line, from: name(line.from), to: name(line.to) })),
  };
}

function graphOf(form: Form, direction: Direction, sizes: Sizes): Elk {
  const down = direction === 'down';
  const ports = (id: string, width: number, height: number, inlet: number, outlet: number): Elk[] => [
    { id: `${id}${INLET}`, ...(down ? { x: inlet, y: 0 } : { x: 0, y: inlet }), width: 0, height: 0, layoutOptions: { 'elk.port.side': down ? 'NORTH' : 'WEST' } },
    { id: `${id}${OUTLET}`, ...(down ? { x: outlet, y: height } : { x: width, y: outlet }), width: 0, height: 0, layoutOptions: { 'elk.port.side': down ? 'SOUTH' : 'EAST' } },
  ];
  const children: Elk[] = form.children.map((group, index) => {
    const id = String(index);
    const { width, height } = group ?? sizes.node;
    const middle = (down ? width : height) / 2;
    return { id, width, height, ports: ports(id, width, height, group?.inlet ?? middle, group?.outlet ?? middle), layoutOptions: { 'elk.portConstraints': 'FIXED_POS' } };
  });
  const end = (id: string, layer: string): Elk => ({ id, width: 1, height: 1, layoutOptions: { 'elk.layered.layering.layerConstraint': layer } });
  if (form.inlet) children.unshift(end(INLET, 'FIRST_SEPARATE'));
  if (form.outlet) children.push(end(OUTLET, 'LAST_SEPARATE'));
  const source = (id: string) => (id === INLET ? id : `${id}${OUTLET}`);
  const target = (id: string) => (id === OUTLET ? id : `${id}${INLET}`);
  return {
    id: '\u0000root',
    children,
    edges: form.edges.map(([from, to], index) => ({ id: `e${index}`, sources: [source(from)], targets: [target(to)] })),
    layoutOptions: {
      'elk.algorithm': 'layered',
      'elk.direction': down ? 'DOWN' : 'RIGHT',
      'elk.edgeRouting': 'ORTHOGONAL',
      'elk.separateConnectedComponents': 'false',
      'elk.padding': form.header === 0 ? '[top=8,left=8,bottom=8,right=8]' : `[top=${HEADER},left=${PAD},bottom=8,right=${PAD}]`,
      'elk.spacing.nodeNode': '22',
      'elk.spacing.edgeNode': '14',
      'elk.spacing.edgeEdge': '8',
      'elk.layered.spacing.nodeNodeBetweenLayers': '18',
      'elk.layered.spacing.edgeNodeBetweenLayers': '9',
      'elk.layered.spacing.edgeEdgeBetweenLayers': '6',
      'elk.layered.considerModelOrder.strategy': 'NODES_AND_EDGES',
      'elk.layered.nodePlacement.strategy': 'BRANDES_KOEPF',
      'elk.layered.nodePlacement.bk.fixedAlignment': 'BALANCED',
      'elk.layered.mergeEdges': 'true',
    },
  };
}

function placedOf(graph: Elk, form: Form, direction: Direction): Placed {
  const down = direction === 'down';
  const width = Math.max(graph.width ?? 0, form.header);
  const height = graph.height ?? 0;
  // A name that is wider than what is inside must not push it to one side.
  const shift = (width - (graph.width ?? 0)) / 2;
  const boxes: Box[] = [];
  let [inlet, outlet] = down ? [width / 2, width / 2] : [height / 2, height / 2];
  const lines: Line[] = [];
  for (const node of graph.children ?? []) {
    const [x, y] = [(node.x ?? 0) + shift, node.y ?? 0];
    if (node.id === INLET) {
      inlet = down ? x + 0.5 : y + 0.5;
      lines.push({ from: '', to: INLET, points: down ? [inlet, 0, inlet, y + 1] : [0, inlet, x + 1, inlet], arrow: false });
    } else if (node.id === OUTLET) {
      outlet = down ? x + 0.5 : y + 0.5;
      lines.push({ from: OUTLET, to: '', points: down ? [outlet, y, outlet, height] : [x, outlet, width, outlet], arrow: false });
    } else {
      boxes.push({ id: node.id, x, y, width: node.width ?? 0, height: node.height ?? 0, group: form.children[Number(node.id)] !== null });
    }
  }
  for (const [index, edge] of (graph.edges ?? []).entries()) {
    const [from, to] = form.edges[index] as Edge;
    for (const { startPoint, bendPoints = [], endPoint } of edge.sections ?? []) {
      const points = [startPoint, ...bendPoints, endPoint].flatMap(({ x, y }) => [x + shift, y]);
      lines.push({ from, to, points, arrow: to !== OUTLET && form.children[Number(to)] === null });
    }
  }
  return { width, height, boxes, lines, inlet, outlet };
}

/** Puts the insides of groups into their places. */
function joined(placed: Placed, inner: ReadonlyMap<string, Placed>): Placed {
  const boxes: Box[] = [];
  const lines = [...placed.lines];
  for (const box of placed.boxes) {
    boxes.push(box);
    const group = inner.get(box.id);
    if (!group) continue;
    for (const each of group.boxes) boxes.push({ ...each, x: each.x + box.x, y: each.y + box.y });
    for (const each of group.lines) {
      lines.push({ ...each, points: each.points.map((at, index) => at + (index % 2 ? box.y : box.x)) });
    }
  }
  return { ...placed, boxes, lines };
}
