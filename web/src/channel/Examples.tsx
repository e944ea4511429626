import { useUnit } from '../api/queries';
import { short } from '../graph/numbers';
import { useOpenSession } from '../shell/session';
import layer from '../layer/layer.module.css';
import { Histogram } from './Histogram';
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
