import { createContext, use } from 'react';
import type { Net, Session } from '../api/types';

export const SessionContext = createContext<Session | null>(null);

export function useOpenSession(): Session {
  const session = use(SessionContext);
  if (!session) throw new Error('there is no session around this part of the page');
  return session;
}

/** The network of the graph; a link to one that there is not shows the first. */
export function netOf(session: Session, index: number): Net {
  return session.networks[index] ?? session.networks[0]!;
}
