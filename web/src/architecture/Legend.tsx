import { use } from 'react';
import { PicturedPoints } from '../reading/Pictured';
import { compact } from '../graph/numbers';
import { CIVIDIS, MEASURES, type Scale } from '../graph/scale';
import { KINDS } from '../graph/kinds';
import classes from './graph.module.css';

export function Legend({ scale }: { scale: Scale }) {
  const pictured = use(PicturedPoints).length > 0;
  return (
    <details className={classes.legend} open={!window.matchMedia('(max-width: 720px)').matches}>
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
            <span>{compact(scale.low)}</span>
            <span>{compact(scale.high)}</span>
          </div>
          <p className="quiet">Logarithmic. Uncolored means none.</p>
        </>
      )}
      {pictured && <p className={classes.marked}>Has pictures</p>}
    </details>
  );
}
