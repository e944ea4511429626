import { useMemo } from 'react';
import { useMethods } from '../api/queries';
import type { Job, Method } from '../api/types';
import { useJobs } from '../jobs/store';

const ATTACKS = new Set(['perturbation', 'driven', 'universal', 'patched']);

/** The newest attack on a picture that is done: of several, what the network was moved by last. */
export function attackOf(jobs: readonly Job[], methods: readonly Method[], net: number, image: string | undefined): Job | undefined {
  const attacks = new Set(methods.filter((method) => ATTACKS.has(method.returns)).map((method) => method.name));
  return jobs.find((job) => job.state === 'done' && job.network === net && job.image === image && attacks.has(job.method) && job.results[''] !== undefined);
}

export function useAttack(net: number, image: string | undefined): Job | undefined {
  const jobs = useJobs();
  const { data: methods } = useMethods();
  return useMemo(() => attackOf(jobs, methods ?? [], net, image), [jobs, methods, net, image]);
}
