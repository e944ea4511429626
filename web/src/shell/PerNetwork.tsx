import type { ReactNode } from 'react';
import { useOpenSession } from './session';
import classes from './columns.module.css';

/** The same for each network, side by side under their names; alone, without a name. */
export function PerNetwork({ children }: { children: (net: number) => ReactNode }) {
  const { networks } = useOpenSession();
  if (networks.length === 1) return children(networks[0]!.id);
  return (
    <div className={classes.columns}>
      {networks.map((net) => (
        <section key={net.id} className={classes.column} aria-label={net.name}>
          <h3 className={classes.name}>{net.name}</h3>
          {children(net.id)}
        </section>
      ))}
    </div>
  );
}
