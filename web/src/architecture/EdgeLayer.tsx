import { ViewportPortal } from '@xyflow/react';
import { memo, useMemo } from 'react';
import { lineKey } from '../graph/diagram';
import type { Box, Layout } from '../graph/form';
import { inOne, rectData } from '../graph/paths';
import classes from './graph.module.css';

interface Props {
  layout: Layout;
  /** The lines that are marked. */
  ways: ReadonlySet<string>;
  /** Nodes too small to be read are drawn here, all in a few paths. */
  far: boolean;
  colorOf: (id: string) => string;
}

/** The lines between nodes. They are not React Flow's edges, of which thousands would hold the page up. */
export const EdgeLayer = memo(function EdgeLayer({ layout, ways, far, colorOf }: Props) {
  const all = useMemo(() => inOne(layout.lines), [layout]);
  const own = useMemo(() => (ways.size > 0 ? inOne(layout.lines.filter((line) => ways.has(lineKey(line.from, line.to)))) : null), [layout, ways]);
  const boxes = useMemo(() => (far ? byColor(layout.boxes, colorOf) : []), [layout, far, colorOf]);
  return (
    <ViewportPortal>
      <svg className={classes.lines} width={layout.width} height={layout.height} aria-hidden="true">
        <path className={classes.line} d={all.lines} />
        <path className={classes.tip} d={all.tips} />
        {own && <path className={classes.ownLine} d={own.lines} />}
        {own && <path className={classes.ownTip} d={own.tips} />}
        {boxes.map(([color, data]) => (
          <path key={color} className={classes.box} d={data} style={{ fill: color }} />
        ))}
      </svg>
    </ViewportPortal>
  );
});

function byColor(boxes: readonly Box[], colorOf: (id: string) => string): [string, string][] {
  const found = new Map<string, string>();
  for (const box of boxes) {
    if (box.group) continue;
    const color = colorOf(box.id);
    found.set(color, (found.get(color) ?? '') + rectData(box));
  }
  return [...found];
}
