import { Button } from '@mantine/core';
import type { Job } from '../api/types';
import { JobProgress } from '../jobs/JobTray';
import { cancel, isActive } from '../jobs/store';
import type { Run } from '../jobs/useRun';
import { ResultView } from './ResultView';
import classes from './results.module.css';

/** How a job goes, and what comes of it. */
export function RunView({ run, large = false, first }: { run: Run; large?: boolean; first?: string | undefined }) {
  const { job, error } = run;
  return (
    <div className={classes.run} aria-live="polite">
      {error && !error.option && <p role="alert" className={classes.bad}>{error.message}</p>}
      {job && isActive(job) && <Going job={job} />}
      {job?.state === 'failed' && <p className={classes.bad}>{job.error}</p>}
      {job?.state === 'cancelled' && <p className="quiet">This was cancelled.</p>}
      {job && [...new Set(Object.values(job.results))].map((id) => <ResultView key={id} id={id} large={large} first={first} />)}
    </div>
  );
}

export function Going({ job }: { job: Job }) {
  const steps = job.state === 'running' && job.total ? `${job.done} of ${job.total}` : job.state;
  return (
    <div className={classes.going}>
      <div className={classes.goingHead}>
        <span className="quiet num">{steps}</span>
        <Button size="compact-xs" onClick={() => void cancel(job)}>Cancel</Button>
      </div>
      <JobProgress job={job} />
    </div>
  );
}
