import { useMemo } from 'react';
import { useLabels } from '../api/queries';
import type { Result } from '../api/types';
import { useOpenSession } from '../shell/session';
import { measuresOf } from './measures';
import classes from './results.module.css';

/** What was measured, each number with its name. */
export function Measures({ result }: { result: Result }) {
  const { networks } = useOpenSession();
  const nets = useMemo(() => networks.filter((net) => net.name === result.network.name).slice(0, 1).map((net) => net.id), [networks, result.network.name]);
  const labels = useLabels(nets)[0]?.labels ?? null;
  const found = measuresOf((result.manifest.scores ?? {}) as Record<string, unknown>, labels);
  if (found.length === 0) return null;
  return (
    <dl className={classes.measures} aria-label={`Measures of ${result.method}`}>
      {found.map(({ name, value }) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd className="num">{value}</dd>
        </div>
      ))}
    </dl>
  );
}
