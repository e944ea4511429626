import { INLET, OUTLET } from './diagram';
import { HEADER, PAD, type Box, type Direction, type Form, type Line, type Placed, type Sizes } from './form';

const GAP = 26;
const LANE = 5;
const LEAVE = 6;
const ENTER = 10;

/** Whether each node is connected to so many that a layered layout would take minutes, and would not be read. */
export function isDense(form: Form): boolean {
  return form.edges.length > 80 && form.edges.length > 3 * form.children.length;
}

/**
 * One column of nodes, and beside it a lane for each node that later ones take up again, as in a dense block.
 *
 * The earliest node has the outermost lane, so that no node's way to its lane crosses another lane.
 */
export function busLayout(form: Form, direction: Direction, sizes: Sizes): Placed {
  const down = direction === 'down';
  const ids = [...(form.inlet ? [INLET] : []), ...form.children.map((_, index) => String(index)), ...(form.outlet ? [OUTLET] : [])];
  const places = new Map(ids.map((id, index) => [id, index]));
  const far = form.edges.filter(([from, to]) => (places.get(to) ?? 0) !== (places.get(from) ?? 0) + 1);
  const lanes = [...new Set(far.map(([from]) => from))].sort((a, b) => (places.get(b) ?? 0) - (places.get(a) ?? 0));
  const laneOf = new Map(lanes.map((id, index) => [id, index]));

  // Along is the way of computation, across is the way of the lanes.
  const size = (id: string) => {
    const held = form.children[Number(id)];
    if (id === INLET || id === OUTLET) return { along: 1, across: 1, enter: 0.5, leave: 0.5 };
    const { width, height } = held ?? sizes.node;
    const [along, across] = down ? [height, width] : [width, height];
    return { along, across, enter: held?.inlet ?? across / 2, leave: held?.outlet ?? across / 2 };
  };
  const widest = Math.max(0, ...ids.map((id) => Math.max(size(id).enter, size(id).leave)));
  const before = down ? PAD : HEADER;
  let at = down ? HEADER : PAD;
  const middle = before + widest;
  const starts = new Map<string, number>();
  let reach = middle;
  for (const id of ids) {
    const { along, across, enter } = size(id);
    starts.set(id, at);
    reach = Math.max(reach, middle - enter + across);
    at += along + GAP;
  }
  const end = at - GAP + (down ? 10 : PAD);
  const across = Math.max(reach + 16 + lanes.length * LANE + PAD, down ? form.header : 0);

  const point = (along: number, side: number): [number, number] => (down ? [side, along] : [along, side]);
  const boxes: Box[] = form.children.map((held, index) => {
    const id = String(index);
    const { along, across: wide, enter } = size(id);
    const [x, y] = point(starts.get(id) ?? 0, middle - enter);
    return { id, x, y, width: down ? wide : along, height: down ? along : wide, group: held !== null };
  });
  const lines: Line[] = form.edges.map(([from, to]) => {
    const first = (starts.get(from) ?? 0) + size(from).along;
    const last = starts.get(to) ?? 0;
    const out = middle - size(from).enter + size(from).leave;
    const lane = laneOf.get(from);
    const straight = (places.get(to) ?? 0) === (places.get(from) ?? 0) + 1 || lane === undefined;
    const side = reach + 16 + (lane ?? 0) * LANE;
    const way = straight
      ? [point(first, out), ...(out === middle ? [] : [point(first + LEAVE, out), point(first + LEAVE, middle)]), point(last, middle)]
      : [point(first, out), point(first + LEAVE, out), point(first + LEAVE, side), point(last - ENTER, side), point(last - ENTER, middle), point(last, middle)];
    return { from, to, points: way.flat(), arrow: to !== OUTLET && form.children[Number(to)] === null };
  });
  const done = starts.get(OUTLET) ?? end;
  if (form.inlet) lines.push({ from: '', to: INLET, points: [...point(0, middle), ...point(starts.get(INLET) ?? 0, middle)], arrow: false });
  if (form.outlet) lines.push({ from: OUTLET, to: '', points: [...point(done, middle), ...point(end, middle)], arrow: false });
  return { width: down ? across : end, height: down ? end : across, boxes, lines, inlet: middle, outlet: middle };
}
