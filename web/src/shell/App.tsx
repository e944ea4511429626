import { Button, Loader } from '@mantine/core';
import { useEffect } from 'react';
import { ApiError } from '../api/ask';
import { queryClient, useSession } from '../api/queries';
import type { Session } from '../api/types';
import { follow } from '../jobs/store';
import { DropAnywhere } from '../picture/DropAnywhere';
import { PictureView } from '../picture/PictureView';
import { usePart } from '../route/useRoute';
import { ArchitectureView } from './ArchitectureView';
import { Astray } from './Astray';
import { Boundary } from './Boundary';
import { Header } from './Header';
import { SessionContext } from './session';
import classes from './shell.module.css';

export function App() {
  const { data: session, error, refetch } = useSession();
  if (error instanceof ApiError && error.status === 401) {
    return <p className={classes.full}>This page needs the link that <code>inward serve</code> printed.</p>;
  }
  if (!session) {
    if (!error) return <div className={classes.full}><Loader aria-label="Loading" /></div>;
    return (
      <div className={classes.full}>
        <p>{error.message}</p>
        <Button onClick={() => void refetch()}>Try again</Button>
      </div>
    );
  }
  return <Page session={session} away={error !== null} />;
}

function Page({ session, away }: { session: Session; away: boolean }) {
  const view = usePart('view');
  useEffect(() => {
    // What failed while the server was away is asked for again.
    if (!away) void queryClient.refetchQueries({ predicate: (query) => query.state.status === 'error' && query.queryKey[0] !== 'session' });
  }, [away]);
  useEffect(() => (session.reading ? undefined : follow(() => void queryClient.invalidateQueries({ queryKey: ['session'] }))), [session.reading]);
  return (
    <SessionContext value={session}>
      <div className={classes.app}>
        <Header session={session} />
        {away && <p role="alert" className={classes.away}>The server does not answer; start <code>inward serve</code> again.</p>}
        <Astray session={session} />
        <main className={classes.main}>
          <Boundary key={view}>{view === 'picture' && !session.reading ? <PictureView /> : <ArchitectureView />}</Boundary>
        </main>
      </div>
      {!session.reading && <DropAnywhere />}
    </SessionContext>
  );
}
