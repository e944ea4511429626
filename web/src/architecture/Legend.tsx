import { use } from 'react';
import { isReading } from '../api/client';
import { PicturedPoints } from '../reading/Pictured';
import { compact, milliseconds } from '../graph/numbers';
import { CIVIDIS, MEASURES, type Scale } from '../graph/scale';
import { KINDS } from '../graph/kinds';
import classes from './graph.module.css';

/** What the colors mean; `measuring` is said where they are not known yet. */
export function Legend({ scale, measuring }: { scale: Scale; measuring: string | null }) {
  const said = scale.measure === 'time' ? milliseconds : compact;
  const pictured = use(PicturedPoints).length > 0;
  return (
    <details className={classes.legend} aria-label="Legend" open={!window.matchMedia('(max-width: 720px)').matches}>
      <summary>{MEASURES[scale.measure]}</summary>
      {scale.measure === 'kind' ? (
        <ul className={classes.kinds}>
          {scale.kinds.map((kind) => (
            <li key={kind}>
              <span className={classes.dot} style={{ background: KINDS[kind].color }} />
              {KINDS[kind].label}
            </li>
          ))}
        </ul>
      ) : (
        <>
          <div className={classes.ramp} style={{ background: CIVIDIS }} />
          <div className={classes.ends}>
            <span>{said(scale.low)}</span>
            <span>{said(scale.high)}</span>
          </div>
          <p className="quiet">{measuring ?? `Logarithmic. Uncolored means none.${scale.measure === 'time' && isReading ? ' Measured where this atlas was made.' : ''}`}</p>
        </>
      )}
      {pictured && <p className={classes.marked}>Has pictures</p>}
    </details>
  );
}
