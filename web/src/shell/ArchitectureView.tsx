import { Loader } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import { lazy, useCallback, useRef } from 'react';
import { useArchitecture } from '../api/queries';
import { go, usePart } from '../route/useRoute';
import { ArchitecturePane } from '../architecture/ArchitecturePane';
import { PicturedPoints } from '../reading/Pictured';
import { netOf, useOpenSession } from './session';
import { SidePanel } from './SidePanel';
import { Later } from './Boundary';
import classes from './shell.module.css';

const PointPanel = lazy(() => import('../layer/PointPanel').then((module) => ({ default: module.PointPanel })));

export function ArchitectureView() {
  const session = useOpenSession();
  const point = usePart('point');
  const net = netOf(session, usePart('net'));
  const { data: architecture, error } = useArchitecture(net.id);
  const panel = useRef<HTMLElement>(null);
  const narrow = useMediaQuery('(max-width: 720px)', undefined, { getInitialValueInEffect: false }) ?? false;
  const select = useCallback((id: string | null, open = false) => {
    go({ point: id, unit: null }, true);
    if (open) requestAnimationFrame(() => panel.current?.focus());
  }, []);
  return (
    <PicturedPoints value={net.points ?? NONE}>
      <div className={classes.columns}>
        <div className={classes.graph}>
          {error && <p className={classes.full}>{error.message}</p>}
          {!architecture && !error && <div className={classes.full}><Loader aria-label="Reading the network" /></div>}
          {architecture && <ArchitecturePane key={net.id} net={net.id} architecture={architecture} select={select} />}
        </div>
        {(!narrow || point) && (
          <SidePanel ref={panel} narrow={narrow} wide={session.networks.length > 1} close={() => select(null)}>
            <Later at={point}>
              {architecture && <PointPanel architecture={architecture} />}
            </Later>
          </SidePanel>
        )}
      </div>
    </PicturedPoints>
  );
}

const NONE: string[] = [];
