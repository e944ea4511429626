import { useReactFlow, useStore } from '@xyflow/react';
import { memo, useMemo, useRef, type PointerEvent } from 'react';
import type { Layout } from '../graph/form';
import { rectData } from '../graph/paths';
import classes from './graph.module.css';

const WIDTH = 150;
const HEIGHT = 150;

/** The minimap: all nodes in one path, and what the screen shows of them. A click or a drag goes there. */
export const Overview = memo(function Overview({ layout, selected }: { layout: Layout; selected: string | null }) {
  const flow = useReactFlow();
  const [x, y, zoom] = useStore((state) => state.transform);
  const width = useStore((state) => state.width);
  const height = useStore((state) => state.height);
  const held = useRef(false);
  const data = useMemo(() => layout.boxes.filter((box) => !box.group).map(rectData).join(''), [layout]);
  const own = useMemo(() => layout.boxes.find((box) => box.id === selected), [layout, selected]);

  const scale = Math.min(WIDTH / layout.width, HEIGHT / layout.height);
  const size = { width: Math.max(36, layout.width * scale), height: Math.max(36, layout.height * scale) };
  const view = { x: -x / zoom, y: -y / zoom, width: width / zoom, height: height / zoom };
  const whole = view.x <= 0 && view.y <= 0 && view.x + view.width >= layout.width && view.y + view.height >= layout.height;
  if (whole) return null;

  const move = (event: PointerEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = { x: ((event.clientX - box.left) / box.width) * layout.width, y: ((event.clientY - box.top) / box.height) * layout.height };
    void flow.setCenter(at.x, at.y, { zoom });
  };
  return (
    <svg
      className={classes.minimap}
      {...size}
      viewBox={`0 0 ${layout.width} ${layout.height}`}
      preserveAspectRatio="none"
      role="img"
      aria-label="Overview of the graph"
      onPointerDown={(event) => {
        held.current = true;
        event.currentTarget.setPointerCapture(event.pointerId);
        move(event);
      }}
      onPointerMove={(event) => {
        if (held.current) move(event);
      }}
      onPointerUp={() => {
        held.current = false;
      }}
    >
      <path className={classes.mapBox} d={data} />
      {own && <path className={classes.mapSelected} d={rectData(own)} />}
      <rect className={classes.mapView} {...view} vectorEffect="non-scaling-stroke" />
    </svg>
  );
});
