import { getViewportForBounds, ReactFlow, useReactFlow, useStore, type Node, type Viewport } from '@xyflow/react';
import { Loader } from '@mantine/core';
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, type KeyboardEvent } from 'react';
import type { Direction, Layout } from '../graph/form';
import { fold, unfold, type Unfolded } from '../graph/fold';
import { lift } from '../graph/lift';
import { shapeText } from '../graph/numbers';
import type { Scale } from '../graph/scale';
import { childrenOf, type Tree } from '../graph/tree';
import { walk, type Arrow } from '../graph/walk';
import { EdgeLayer } from './EdgeLayer';
import { Legend } from './Legend';
import { NODE_TYPES, Toggle, type NodeData } from './nodes';
import { Overview } from './Overview';
import { useLayout } from './useLayout';
import classes from './graph.module.css';

const FAR = 0.32;
const ZOOMS = { min: 0.02, max: 2 };
const LEAF_Z = 1000;
/** The share of a phone's screen that is told of the selected node. */
const SHEET = 0.52;
const READABLE = 0.6;
const MARGIN = 24;
/** Milliseconds in which a second click follows. */
const DOUBLE = 400;

/** What the sheet of a phone hides of the graph, in pixels. */
function coveredHeight(): number {
  return window.matchMedia('(max-width: 720px)').matches ? SHEET * window.innerHeight : 0;
}

export interface GraphProps {
  tree: Tree;
  unfolded: Unfolded;
  setUnfolded: (next: Unfolded) => void;
  direction: Direction;
  scale: Scale;
  measuring: string | null;
  selected: string | null;
  /** `open` moves on to what is told of the node. */
  select: (id: string | null, open?: boolean) => void;
  /** Changes where the whole graph is to be shown. */
  fitted: number;
  /** Changes where the selected node is to be shown. */
  centered: number;
}

export function Graph({ tree, unfolded, setUnfolded, direction, scale, measuring, selected, select, fitted, centered }: GraphProps) {
  const flow = useReactFlow();
  // Where the view goes next. What is too small there is taken away before, else all of it would be drawn for a moment.
  const [next, setNext] = useState<Viewport | null>(null);
  const far = useStore((state) => state.transform[2] < FAR) || (next !== null && next.zoom < FAR);
  const width = useStore((state) => state.width);
  const height = useStore((state) => state.height);
  const { laid, slow, failed } = useLayout(tree, unfolded, direction);
  const layout = laid?.layout ?? null;
  const before = useRef<Layout | null>(null);
  const anchor = useRef<string | null>(null);
  const wanted = useRef({ fit: true, center: false });

  const toggle = useCallback(
    (id: string) => {
      if (childrenOf(tree, id).length === 0) return;
      anchor.current = id;
      setUnfolded(unfolded.has(id) ? fold(tree, unfolded, id) : unfold(unfolded, id));
    },
    [tree, unfolded, setUnfolded],
  );
  const colorOf = useCallback((id: string) => scale.color(tree.nodes.get(id)!), [scale, tree]);

  const nodes = useMemo<Node<NodeData>[]>(
    () =>
      (layout?.boxes ?? []).map((box, index) => ({
        id: box.id,
        type: box.group ? 'nest' : 'leaf',
        position: { x: box.x, y: box.y },
        width: box.width,
        height: box.height,
        // A node of which React Flow knows the size and the handles is not drawn once only to be measured.
        measured: { width: box.width, height: box.height },
        handles: NONE,
        // Boxes come with what encloses first.
        zIndex: box.group ? index - LEAF_Z : LEAF_Z,
        data: { node: tree.nodes.get(box.id)!, color: colorOf(box.id) },
      })),
    [layout, tree, colorOf],
  );
  const shown = useMemo(() => {
    const seen = far ? nodes.filter((node) => node.type === 'nest' || node.id === selected) : nodes;
    return seen.map((node) => (node.id === selected ? { ...node, selected: true } : node));
  }, [nodes, far, selected]);

  const fit = useCallback(() => {
    if (!layout || width === 0) return;
    const bounds = { x: 0, y: 0, width: layout.width, height: layout.height };
    const whole = getViewportForBounds(bounds, width, height, ZOOMS.min, 1.15, 0.05);
    // A long row of nodes that nobody can read says less than its beginning.
    const zoom = direction === 'right' ? Math.max(whole.zoom, READABLE) : whole.zoom;
    setNext(zoom === whole.zoom ? whole : { x: MARGIN, y: (height - layout.height * zoom) / 2, zoom });
  }, [layout, width, height, direction]);
  useEffect(() => {
    if (!next) return;
    void flow.setViewport(next);
    setNext(null);
  }, [flow, next]);

  const center = useCallback(
    (id: string) => {
      const box = layout?.boxes.find((each) => each.id === id);
      if (!box) return false;
      const zoom = Math.min(1.1, Math.max(0.8, flow.getZoom()));
      const covered = coveredHeight();
      const tall = box.height * zoom > height - covered;
      const middle = tall ? box.y + (height - covered) / 2 / zoom - 30 : box.y + box.height / 2;
      void flow.setCenter(box.x + box.width / 2, middle + covered / 2 / zoom, { zoom });
      return true;
    },
    [flow, layout, height],
  );

  const bring = useCallback(
    (id: string) => {
      const box = layout?.boxes.find((each) => each.id === id);
      const { x, y, zoom } = flow.getViewport();
      if (!box) return;
      const [left, top] = [box.x * zoom + x, box.y * zoom + y];
      const below = top + Math.min(box.height, 60) * zoom > height - coveredHeight();
      if (left < 0 || top < 0 || left + box.width * zoom > width || below) center(id);
    },
    [layout, width, height, flow, center],
  );
  const latest = useRef(bring);
  latest.current = bring;
  useEffect(() => {
    if (!selected) return undefined;
    // A link inside the page can lead to what is out of sight. A click can be the first of two, and must find the node
    // where it was.
    const timer = setTimeout(() => latest.current(selected), DOUBLE);
    return () => clearTimeout(timer);
  }, [selected]);

  useEffect(() => {
    if (fitted === 0) return;
    if (laid?.unfolded === unfolded) fit();
    else wanted.current.fit = true;
    // Only a new wish to see everything is one, not another size of the pane.
  }, [fitted]);
  useEffect(() => {
    if (centered > 0) wanted.current.center = true;
  }, [centered]);

  useLayoutEffect(() => {
    if (!layout || width === 0) return;
    const held = anchor.current ?? selected ?? before.current?.boxes[0]?.id;
    const [from, to] = [before.current, layout].map((each) => each?.boxes.find((box) => box.id === held));
    const turned = before.current !== layout;
    before.current = layout;
    anchor.current = null;
    if (wanted.current.center && selected && center(selected)) {
      wanted.current = { fit: false, center: false };
    } else if (wanted.current.fit) {
      wanted.current.fit = false;
      fit();
    } else if (turned && from && to) {
      const { x, y, zoom } = flow.getViewport();
      // What is unfolded grows to both sides, downwards from its top.
      const aside = from.x + from.width / 2 - (to.x + to.width / 2);
      const moved = { x: x + aside * zoom, y: y + (from.y - to.y) * zoom, zoom };
      const [left, top] = [moved.x + to.x * zoom, moved.y + to.y * zoom];
      const seen = top > -10 && top < height && left + to.width * zoom > 10 && left < width;
      if (seen) void flow.setViewport(moved);
      else center(to.id);
    }
  }, [layout, width, height, selected, centered, center, fit, flow]);

  useEffect(() => {
    wanted.current.fit = true;
  }, [direction]);

  const edges = useMemo(() => (laid ? lift(laid.tree, laid.unfolded) : []), [laid]);
  const keyed = (event: KeyboardEvent) => {
    if (!layout || event.ctrlKey || event.metaKey || event.altKey) return;
    const first = layout.boxes[0]?.id;
    if (event.key.startsWith('Arrow')) {
      const next = selected ? walk(selected, event.key as Arrow, layout.boxes, edges, direction) : first;
      if (next) reach(next);
    } else if (event.key === 'Enter' && selected) {
      if (childrenOf(tree, selected).length > 0 && !unfolded.has(selected)) toggle(selected);
      else select(selected, true);
    } else if (event.key === 'Escape' && selected) {
      const parent = tree.nodes.get(selected)?.parent ?? '';
      if (unfolded.has(selected)) toggle(selected);
      else if (parent) reach(parent);
      else select(null);
    } else if (event.key === 'Home' && first) {
      reach(first);
    } else {
      return;
    }
    event.preventDefault();
  };
  const tap = useRef<ReturnType<typeof setTimeout>>(undefined);
  const tapped = (id: string) => {
    clearTimeout(tap.current);
    // On a phone the sheet of a block would cover it before the second of two taps.
    if (coveredHeight() > 0 && childrenOf(tree, id).length > 0) tap.current = setTimeout(() => select(id), DOUBLE);
    else select(id);
  };
  useEffect(() => () => clearTimeout(tap.current), []);
  const reach = (id: string) => {
    clearTimeout(tap.current);
    select(id);
    bring(id);
  };

  if (failed) return <p className={classes.center}>The graph could not be laid out: {failed}</p>;
  return (
    <Toggle value={toggle}>
      <div className={classes.canvas} role="application" tabIndex={0} onKeyDown={keyed} aria-label="Architecture" aria-describedby="graph-keys">
        <p id="graph-keys" className="hidden">
          Arrow keys follow the edges. Enter unfolds a container. Escape folds it, or goes to what encloses it.
        </p>
        <p className="hidden" aria-live="polite">{selected && told(tree, unfolded, selected)}</p>
        <ReactFlow
          nodes={shown}
          edges={NONE}
          nodeTypes={NODE_TYPES}
          onNodeClick={(_, node) => tapped(node.id)}
          onNodeDoubleClick={(_, node) => {
            clearTimeout(tap.current);
            toggle(node.id);
          }}
          onPaneClick={() => {
            clearTimeout(tap.current);
            select(null);
          }}
          minZoom={ZOOMS.min}
          maxZoom={ZOOMS.max}
          onlyRenderVisibleElements
          nodesDraggable={false}
          nodesConnectable={false}
          nodesFocusable={false}
          edgesFocusable={false}
          elementsSelectable={false}
          disableKeyboardA11y
          zoomOnDoubleClick={false}
          panOnScroll={false}
          deleteKeyCode={null}
          proOptions={{ hideAttribution: true }}
        >
          {layout && <EdgeLayer layout={layout} selected={selected} far={far} colorOf={colorOf} />}
        </ReactFlow>
        {layout && <Overview layout={layout} selected={selected} />}
        <Legend scale={scale} measuring={measuring} />
        {(slow || !layout) && (
          <div className={classes.busy} role="status">
            <Loader size={14} /> Arranging
          </div>
        )}
      </div>
    </Toggle>
  );
}

const NONE: never[] = [];

/** A node in one sentence, for those who hear the page. */
function told(tree: Tree, unfolded: Unfolded, id: string): string {
  const node = tree.nodes.get(id);
  if (!node) return '';
  const inside = childrenOf(tree, id).length;
  const parts = [node.label, node.module, shapeText(node.shape)];
  if (inside > 0) parts.push(`${unfolded.has(id) ? 'unfolded' : 'folded'}, ${inside} inside`);
  return parts.filter(Boolean).join(', ');
}
