import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import type { Job, Known } from '../api/types';
import { client } from '../api/client';
import { allJobs, cancel, onJobs, start, useJobs } from '../jobs/store';
import { TileQueue } from './tileQueue';

export const TILE_METHOD = 'feature-visualization';

const SERVER = { start, cancel, abandon: (job: Job) => client.abandon(job.id) };

/** Pictures of the channels of one point that are not `known` yet: results by address, and a ref for each tile that tells when it is in view. */
export function useTiles(net: number, on: boolean, known: Known) {
  const [error, setError] = useState<string | null>(null);
  const queue = useRef<TileQueue | null>(null);
  const observer = useRef<IntersectionObserver | null>(null);
  const seen = useRef(new Set<Element>());

  useEffect(() => {
    if (!on) return undefined;
    const made = new TileQueue({ method: TILE_METHOD, network: net, options: {} }, SERVER, (failed) =>
      setError(failed instanceof Error ? failed.message : String(failed)),
    );
    queue.current = made;
    const addressOf = (tile: Element) => (tile as HTMLElement).dataset.address ?? '';
    const looking = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const address = addressOf(entry.target);
        if (address in known) continue;
        if (entry.isIntersecting) made.want(address);
        else made.leave(address);
      }
    });
    observer.current = looking;
    for (const tile of seen.current) looking.observe(tile);
    const leave = onJobs(() => {
      for (const job of allJobs()) made.hear(job);
    });
    const gone = () => made.abandon();
    const back = () => made.resume();
    window.addEventListener('pagehide', gone);
    window.addEventListener('pageshow', back);
    return () => {
      window.removeEventListener('pagehide', gone);
      window.removeEventListener('pageshow', back);
      leave();
      looking.disconnect();
      made.stop();
      queue.current = null;
      observer.current = null;
    };
  }, [net, on, known]);

  const watch = useCallback((tile: HTMLElement | null) => {
    if (!tile) return undefined;
    seen.current.add(tile);
    observer.current?.observe(tile);
    return () => {
      seen.current.delete(tile);
      observer.current?.unobserve(tile);
      queue.current?.leave(tile.dataset.address ?? '');
    };
  }, []);

  return { results: useMade(net), watch, error };
}

/** The results of units that jobs have made since the page is there, by address. */
export function useMade(net: number): ReadonlyMap<string, string> {
  const jobs = useJobs();
  return useMemo(() => {
    const found = new Map<string, string>();
    for (const job of jobs) {
      if (job.method !== TILE_METHOD || job.network !== net || job.video || Object.keys(job.options).length > 0) continue;
      for (const [address, result] of Object.entries(job.results)) found.set(address, result);
    }
    return found;
  }, [jobs, net]);
}
