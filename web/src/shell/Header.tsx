import { SegmentedControl } from '@mantine/core';
import { memo, useEffect } from 'react';
import type { Session } from '../api/types';
import { compact } from '../graph/numbers';
import { JobTray } from '../jobs/JobTray';
import { PictureChip } from '../picture/PictureChip';
import { go, usePart } from '../route/useRoute';
import { netOf } from './session';
import { useKept } from './useKept';
import { SchemeMenu } from './SchemeMenu';
import classes from './shell.module.css';

export const Header = memo(function Header({ session }: { session: Session }) {
  const view = usePart('view');
  const now = usePart('tab');
  const [tab, setTab] = useKept<string | null>('tab', null);
  useEffect(() => {
    if (now) setTab(now);
  }, [now, setTab]);
  const net = netOf(session, usePart('net'));
  return (
    <header className={classes.header}>
      <h1 className={classes.brand}>
        <img src="./icon.svg" alt="" width={22} height={22} />
        <span>inward</span>
      </h1>
      {!session.reading && (
        <SegmentedControl
          aria-label="View"
          value={view}
          onChange={(next) => go(next === 'picture' ? { view: next, tab: tab ?? 'explain' } : { view: 'architecture', tab: null })}
          data={[{ value: 'architecture', label: 'Network' }, { value: 'picture', label: 'Picture' }]}
        />
      )}
      {session.networks.length > 1 && view === 'architecture' ? (
        <SegmentedControl
          aria-label="Network whose graph is shown"
          value={String(net.id)}
          onChange={(value) => go({ net: Number(value) })}
          data={session.networks.map((each) => ({ value: String(each.id), label: each.name }))}
          className={classes.nets}
        />
      ) : (
        <p className={`${classes.told} ${session.reading ? classes.alone : ''}`}>
          {session.networks.length === 1 && <strong>{net.name}</strong>}{' '}
          {session.networks.length === 1 && <span className="quiet">{compact(net.parameters)} parameters · {net.size.join(' × ')}{session.reading ? '' : ` · ${net.device}`}</span>}
        </p>
      )}
      <div className={classes.tools}>
        {!session.reading && <PictureChip />}
        {!session.reading && <JobTray nets={session.networks} />}
        <SchemeMenu />
      </div>
    </header>
  );
});
