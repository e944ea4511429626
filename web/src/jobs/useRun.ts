import { useCallback, useEffect, useMemo, useState } from 'react';
import { ApiError } from '../api/ask';
import type { Job, JobRequest } from '../api/types';
import { keyOf, start, useJobs } from './store';

const keys = new WeakMap<Job, string>();

function heldKey(job: Job): string {
  let key = keys.get(job);
  if (key === undefined) {
    key = keyOf(job);
    keys.set(job, key);
  }
  return key;
}

export interface Run {
  /** The last job with this request: also one that another part of the page asked for, or that was there on loading. */
  job: Job | undefined;
  error: ApiError | null;
  run: () => void;
}

/** A request and the job that answers it. With `auto` it is asked for at once. */
export function useRun(request: JobRequest | null, auto = false): Run {
  const jobs = useJobs();
  const key = request && keyOf(request);
  const job = useMemo(() => jobs.find((each) => heldKey(each) === key), [jobs, key]);
  const [failed, setFailed] = useState<{ key: string; error: ApiError } | null>(null);

  const run = useCallback(() => {
    if (!request || !key) return;
    setFailed(null);
    start(request).catch((error: unknown) => {
      setFailed({ key, error: error instanceof ApiError ? error : new ApiError(0, String(error)) });
    });
  }, [request, key]);
  useEffect(() => {
    if (auto && request && !job) run();
    // One job a request: what was cancelled is not begun again by itself.
  }, [auto, key]);
  return { job, error: failed?.key === key ? failed.error : null, run };
}
