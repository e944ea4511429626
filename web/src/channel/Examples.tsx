import { useUnit } from '../api/queries';
import type { Unit } from '../api/types';
import { short } from '../graph/numbers';
import { useOpenSession } from '../shell/session';
import layer from '../layer/layer.module.css';
import classes from './channel.module.css';

/** What the channel answers to most among the pictures of the folder. */
export function Examples({ net, address }: { net: number; address: string }) {
  const session = useOpenSession();
  const { data, error } = useUnit(net, address);
  return (
    <section className={layer.section}>
      <h3>In the folder</h3>
      {error && <p className={layer.bad}>{error.message}</p>}
      {!data && !error && <p className="quiet">Asking the server</p>}
      {data?.study === 'none' && <p className="quiet">{session.folder ? 'The pictures of the folder were not looked through for this point.' : 'Start inward serve with a folder of pictures (--images) to see which of them excite this channel.'}</p>}
      {data?.study === 'running' && <p className="quiet" role="status">The pictures of the folder are being looked through.</p>}
      {data?.histogram && <Histogram histogram={data.histogram} />}
      {data && data.examples.length > 0 && (
        <ol className={classes.examples}>
          {data.examples.map((each) => (
            <li key={`${each.name}${each.box.join()}`}>
              <a href={each.picture} target="_blank" rel="noreferrer" title={each.name}>
                <img src={each.patch} alt={`The part of ${each.name} that excites it`} loading="lazy" />
              </a>
              <a href={each.picture} target="_blank" rel="noreferrer" title={each.name}>
                <img src={each.picture} alt={each.name} loading="lazy" />
              </a>
              <span className="quiet num">{short(each.value)}</span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function Histogram({ histogram }: { histogram: NonNullable<Unit['histogram']> }) {
  const { edges, counts } = histogram;
  const most = Math.max(1, ...counts);
  const [low, high] = [edges[0] ?? 0, edges.at(-1) ?? 0];
  return (
    <figure>
      <svg className={classes.histogram} viewBox={`0 0 ${counts.length} 40`} preserveAspectRatio="none" role="img" aria-label={`Histogram of its activations from ${short(low)} to ${short(high)}`}>
        {counts.map((count, index) => {
          // Few but strong answers are what one looks for: logarithms keep them visible.
          const height = count > 0 ? Math.max(1, (40 * Math.log1p(count)) / Math.log1p(most)) : 0;
          return <rect key={edges[index]} x={index + 0.08} width={0.84} y={40 - height} height={height} />;
        })}
      </svg>
      <figcaption className={classes.axis}>
        <span>{short(low)}</span>
        <span>activation, counts in logarithms</span>
        <span>{short(high)}</span>
      </figcaption>
    </figure>
  );
}
