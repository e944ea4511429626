import { createContext, use } from 'react';
import { linkTo, useRoute } from '../route/useRoute';
import classes from './reading.module.css';

/** Points whose channels the atlas shows; none where there is a server. */
export const PicturedPoints = createContext<readonly string[]>([]);

/** Leads to the layers that have pictures. */
export function Pictured() {
  const points = use(PicturedPoints);
  const route = useRoute();
  if (points.length === 0) return null;
  return (
    <nav aria-label="Layers with pictures" className={classes.pictured}>
      <p className="quiet">Layers with pictures</p>
      <ul>
        {points.map((point) => (
          <li key={point}><a href={linkTo(route, { point, unit: null })}>{point}</a></li>
        ))}
      </ul>
    </nav>
  );
}

/** For a layer without pictures. */
export function NoPictures() {
  return (
    <>
      <p className="quiet">This atlas has no pictures of this layer.</p>
      <Pictured />
    </>
  );
}
