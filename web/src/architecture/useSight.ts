import { getViewportForBounds, useReactFlow, useStore, type Viewport } from '@xyflow/react';
import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from 'react';
import type { Unfolded } from '../graph/fold';
import type { Direction, Layout } from '../graph/form';
import type { LaidOut } from './useLayout';

export const ZOOMS = { min: 0.02, max: 2 };
/** The share of a phone's screen that is told of the selected node. */
const SHEET = 0.52;
const READABLE = 0.6;
const MARGIN = 24;
/** Pixels of the graph that are seen at least. */
const SEEN = 40;
/** Milliseconds in which a second click follows. */
export const DOUBLE = 400;

/** What the sheet of a phone hides of the graph, in pixels. */
export function coveredHeight(): number {
  return window.matchMedia('(max-width: 720px)').matches ? SHEET * window.innerHeight : 0;
}

interface Asked {
  laid: LaidOut | null;
  unfolded: Unfolded;
  direction: Direction;
  selected: string | null;
  /** Changes where the whole graph is to be shown. */
  fitted: number;
  /** Changes where the selected node is to be shown. */
  centered: number;
}

interface Sight {
  /** Where the view goes next. */
  next: Viewport | null;
  /** The node that stays in its place when the layout changes. */
  anchor: RefObject<string | null>;
  /** Moves the graph where a node is out of sight. */
  bring: (id: string) => void;
}

/** What of the graph is on the screen: all of it, the selected node, or what was there before a block was unfolded. */
export function useSight({ laid, unfolded, direction, selected, fitted, centered }: Asked): Sight {
  const flow = useReactFlow();
  const [next, setNext] = useState<Viewport | null>(null);
  const width = useStore((state) => state.width);
  const height = useStore((state) => state.height);
  const layout = laid?.layout ?? null;
  const before = useRef<Layout | null>(null);
  const anchor = useRef<string | null>(null);
  const wanted = useRef({ fit: true, center: false });

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
    if (!layout || width === 0) return;
    // Another size of the window must not leave it empty.
    const { x, y, zoom } = flow.getViewport();
    const away = x + layout.width * zoom < SEEN || x > width - SEEN || y + layout.height * zoom < SEEN || y > height - SEEN;
    if (away && before.current === layout) fit();
  }, [width, height]);

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
  return { next, anchor, bring };
}
