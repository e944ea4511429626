import { ActionIcon, Button, Indicator, Popover, Progress, ScrollArea, Tooltip } from '@mantine/core';
import { useState } from 'react';
import type { Job, Net } from '../api/types';
import { useImages } from '../api/queries';
import { Icon } from '../shell/icons';
import { cancel, isActive, useJobs } from './store';
import classes from './jobs.module.css';

const LAST = 12;
const SAID: Record<Job['state'], string> = { waiting: 'waiting', running: 'running', done: 'done', failed: 'failed', cancelled: 'cancelled' };

export function JobTray({ nets }: { nets: Net[] }) {
  const jobs = useJobs();
  const [opened, setOpened] = useState(false);
  // What was asked for stands above the pictures of grids, which come and go: else a row would move as one points at it.
  const active = jobs.filter(isActive).toReversed().sort((a, b) => Number(a.background) - Number(b.background));
  // Pictures of a grid that was left say nothing to whoever left it.
  const ended = jobs.filter((job) => !isActive(job) && !(job.background && job.state === 'cancelled')).slice(0, LAST);
  const label = active.length === 0 ? 'Jobs' : `Jobs, ${active.length} not done`;
  return (
    <Popover opened={opened} onChange={setOpened} width={360} position="bottom-end" shadow="md" withArrow trapFocus>
      <Popover.Target>
        <Tooltip label={label} disabled={opened}>
          <Indicator disabled={active.length === 0} label={active.length} size={15} offset={5} zIndex={1}>
            <ActionIcon size="lg" aria-label={label} onClick={() => setOpened(!opened)}>
              <Icon name="jobs" />
            </ActionIcon>
          </Indicator>
        </Tooltip>
      </Popover.Target>
      <Popover.Dropdown aria-label="Jobs" p={0}>
        <ScrollArea.Autosize mah={420} scrollbars="y" scrollbarSize={10} viewportProps={{ tabIndex: 0 }}>
          <div className={classes.list}>
            {active.length + ended.length === 0 && <p className="quiet">Nothing was computed yet. What you ask for appears here.</p>}
            {active.map((job) => <Row key={job.id} job={job} nets={nets} />)}
            {ended.length > 0 && <h2 className={classes.heading}>Last</h2>}
            {ended.map((job) => <Row key={job.id} job={job} nets={nets} />)}
            {active.length > 1 && (
              <Button mt="xs" fullWidth onClick={() => active.forEach((job) => void cancel(job))}>Cancel all</Button>
            )}
          </div>
        </ScrollArea.Autosize>
      </Popover.Dropdown>
    </Popover>
  );
}

function Row({ job, nets }: { job: Job; nets: Net[] }) {
  const active = isActive(job);
  const { data: images } = useImages();
  const image = images?.find((each) => each.id === job.image)?.name ?? job.image;
  const of = job.addresses.length > 1 ? `${job.addresses[0]} and ${job.addresses.length - 1} more` : job.addresses[0] ?? image;
  const target = typeof job.options.target === 'string' ? job.options.target : undefined;
  const about = [of, target, job.video ? 'as a video' : undefined, ...told(job.options), nets.length > 1 ? nets[job.network]?.name : undefined].filter(Boolean).join('  ');
  return (
    <div className={classes.row}>
      <div className={classes.title}>
        <strong>{job.method}</strong>
        <span className={`${classes.state} ${job.state === 'failed' ? classes.bad : 'quiet'}`}>{job.state === 'running' && job.total ? `${job.done} of ${job.total}` : SAID[job.state]}</span>
        {active && (
          <ActionIcon size="sm" aria-label={`Cancel ${job.method}`} onClick={() => void cancel(job)}>
            <Icon name="close" size={12} />
          </ActionIcon>
        )}
      </div>
      {about && <p className={`${classes.about} mono`} title={about}>{about}</p>}
      {active && <JobProgress job={job} />}
      {job.error && <p className={classes.bad}>{job.error}</p>}
    </div>
  );
}

/** Options that tell one job from another of the same method. */
function told(options: Job['options']): string[] {
  return Object.entries(options)
    .filter(([name, value]) => name !== 'target' && (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean'))
    .map(([name, value]) => `${name.replaceAll('_', ' ')} ${typeof value === 'number' && !Number.isInteger(value) ? value.toPrecision(3) : String(value)}`);
}

export function JobProgress({ job }: { job: Job }) {
  const share = job.total ? (100 * job.done) / job.total : job.state === 'running' ? 4 : 0;
  return <Progress size="sm" value={share} animated={job.state === 'running' && !job.total} aria-label={`Progress of ${job.method}`} />;
}
