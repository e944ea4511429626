import ELK from 'elkjs/lib/elk-api.js';
import workerUrl from 'elkjs/lib/elk-worker.min.js?url';
import type { Elk, Run } from '../graph/layout';

let elk: InstanceType<typeof ELK> | null = null;

/** Starts the worker before the first graph is there: reading its code takes longer than laying out. */
export function warmElk(): InstanceType<typeof ELK> {
  elk ??= new ELK({ workerFactory: () => new Worker(workerUrl) });
  return elk;
}

export const runElk: Run = (graph) => warmElk().layout(graph as never) as unknown as Promise<Elk>;
