import { useAnswers } from '../api/queries';
import type { Net, Top } from '../api/types';
import { percent } from '../graph/numbers';
import classes from './picture.module.css';

export function Answers({ net, image, named }: { net: Net; image: string; named: boolean }) {
  const { data, error } = useAnswers(net.id, image);
  return (
    <div>
      {named && <h2 className={classes.netName}>{net.name}</h2>}
      {error && <p className={classes.bad}>{error.message}</p>}
      {data && <Bars top={data.top} label={`Answers of ${net.name}`} />}
      {!data && !error && <p className="quiet">Asking the network</p>}
    </div>
  );
}

/** Probabilities of classes, as bars. */
export function Bars({ top, label }: { top: Top[]; label: string }) {
  return (
    <ol className={classes.bars} aria-label={label}>
      {top.map((each) => (
        <li key={each.class}>
          <span className={classes.barLabel} title={`${each.label}, class ${each.class}`}>{each.label}</span>
          <span className={`${classes.barValue} num`}>{percent(each.probability)}</span>
          <span className={classes.track}>
            <span className={classes.bar} style={{ width: `${100 * each.probability}%` }} />
          </span>
        </li>
      ))}
    </ol>
  );
}
