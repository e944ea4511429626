import { ReactFlow, useStore, type Node } from '@xyflow/react';
import { Loader } from '@mantine/core';
import { useCallback, useEffect, useMemo, useRef, type KeyboardEvent } from 'react';
import type { Direction } from '../graph/form';
import { fold, unfold, type Unfolded } from '../graph/fold';
import { lift } from '../graph/lift';
import { shapeText } from '../graph/numbers';
import type { Scale } from '../graph/scale';
import { waysOf } from '../graph/diagram';
import { childrenOf, type Tree } from '../graph/tree';
import { walk, type Arrow } from '../graph/walk';
import { EdgeLayer } from './EdgeLayer';
import { Legend } from './Legend';
import { NODE_TYPES, Toggle, type NodeData } from './nodes';
import { Overview } from './Overview';
import { useLayout } from './useLayout';
import { coveredHeight, DOUBLE, useSight, ZOOMS } from './useSight';
import classes from './graph.module.css';

const NO_WAYS: ReadonlySet<string> = new Set();
const FAR = 0.32;
const LEAF_Z = 1000;

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
  const { laid, slow, failed } = useLayout(tree, unfolded, direction);
  const layout = laid?.layout ?? null;
  const { next, anchor, bring } = useSight({ laid, unfolded, direction, selected, fitted, centered });
  // What is too small there is taken away before the view goes there, else all of it would be drawn for a moment.
  const far = useStore((state) => state.transform[2] < FAR) || (next !== null && next.zoom < FAR);
  const toggle = useCallback(
    (id: string) => {
      if (childrenOf(tree, id).length === 0) return;
      anchor.current = id;
      setUnfolded(unfolded.has(id) ? fold(tree, unfolded, id) : unfold(unfolded, id));
    },
    [tree, unfolded, setUnfolded, anchor],
  );
  const colorOf = useCallback((id: string) => scale.color(tree.nodes.get(id)!), [scale, tree]);

  const ways = useMemo(() => (selected ? waysOf(tree, selected) : NO_WAYS), [tree, selected]);
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
          {layout && <EdgeLayer layout={layout} ways={ways} far={far} colorOf={colorOf} />}
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
