import type { Unit } from '../api/types';
import { ticksOf } from '../graph/ticks';
import { short } from '../graph/numbers';
import classes from './channel.module.css';

/** How often a channel answers how strongly, on a logarithmic scale: bins that double, with one around 0. */
export function Histogram({ histogram }: { histogram: NonNullable<Unit['histogram']> }) {
  const { edges, counts } = histogram;
  const most = Math.max(1, ...counts);
  const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 0];
  return (
    <figure>
      <svg className={classes.histogram} viewBox={`0 0 ${counts.length} 40`} preserveAspectRatio="none" role="img" aria-label={`Histogram of its activations from ${short(low)} to ${short(high)}, both axes logarithmic`}>
        {counts.map((count, index) => {
          // Few but strong answers are what one looks for: logarithms keep them visible.
          const height = count > 0 ? Math.max(1, (40 * Math.log1p(count)) / Math.log1p(most)) : 0;
          return <rect key={edges[index]} x={index + 0.08} width={0.84} y={40 - height} height={height} />;
        })}
      </svg>
      <div className={classes.ticks} aria-hidden>
        {ticksOf(edges).map(({ value, at }) => <span key={value} style={{ left: `${100 * at}%` }}>{String(value)}</span>)}
      </div>
      <figcaption className={classes.axis}>activation; both axes are logarithmic</figcaption>
    </figure>
  );
}
