import { useMemo, useSyncExternalStore } from 'react';
import { format, parse, type Route } from './route';

function subscribe(changed: () => void): () => void {
  window.addEventListener('hashchange', changed);
  return () => window.removeEventListener('hashchange', changed);
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(subscribe, () => window.location.hash);
  return useMemo(() => parse(hash), [hash]);
}

/** Goes somewhere, and keeps what is not told. */
export function go(change: Partial<Route>, replace = false): void {
  const hash = format({ ...parse(window.location.hash), ...change });
  if (hash === window.location.hash) return;
  if (replace) window.location.replace(hash);
  else window.location.hash = hash;
}

/** The address of a link. */
export function linkTo(route: Route, change: Partial<Route>): string {
  return format({ ...route, ...change });
}
