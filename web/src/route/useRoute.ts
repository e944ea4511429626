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

/** One part of where the page is: only a change of it draws anew what reads it. */
export function usePart<K extends keyof Route>(part: K): Route[K] {
  return useSyncExternalStore(subscribe, () => here()[part]);
}

/** Where the page is now. */
export function here(): Route {
  return parse(window.location.hash);
}

/** Goes somewhere, and keeps what is not told. */
export function go(change: Partial<Route>, replace = false): void {
  const hash = format({ ...parse(window.location.hash), ...change });
  if (hash === window.location.hash) return;
  // Set as a location, it would be told only later, and a key that is pressed meanwhile start from where the page was.
  if (replace) window.history.replaceState(null, '', hash);
  else window.history.pushState(null, '', hash);
  window.dispatchEvent(new HashChangeEvent('hashchange'));
}

/** The address of a link. */
export function linkTo(route: Route, change: Partial<Route>): string {
  return format({ ...route, ...change });
}
