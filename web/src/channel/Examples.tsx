import { Button } from '@mantine/core';
import { useEffect, useMemo } from 'react';
import { queryClient, useUnit } from '../api/queries';
import type { JobRequest, Unit } from '../api/types';
import { short } from '../graph/numbers';
import { isActive } from '../jobs/store';
import { useRun } from '../jobs/useRun';
import { Going } from '../results/RunView';
import layer from '../layer/layer.module.css';
import { Histogram } from './Histogram';
import classes from './channel.module.css';

interface Props {
  net: number;
  point: string;
  address: string;
}

/** What the channel answers to most among the pictures of the folder; they are looked through for all channels of a point. */
export function Examples({ net, point, address }: Props) {
  const { data, error } = useUnit(net, address);
  const request = useMemo<JobRequest>(() => ({ method: 'activations', network: net, addresses: [point], options: {} }), [net, point]);
  const { job, error: refused, run } = useRun(request);
  const state = job?.state;
  useEffect(() => {
    if (state === 'done') void queryClient.invalidateQueries({ queryKey: ['unit', net] });
  }, [state, net]);
  const going = job !== undefined && isActive(job);
  return (
    <section className={layer.section}>
      <div className={layer.heading}>
        <h3>In the folder</h3>
        {data?.study === 'open' && !going && <Button onClick={run}>Look through it</Button>}
      </div>
      {(error ?? refused) && <p role="alert" className={layer.bad}>{(error ?? refused)?.message}</p>}
      {!data && !error && <p className="quiet">Asking the server</p>}
      {data?.study === 'none' && <p className="quiet">Start inward serve with a folder of pictures (--images) to see which of them excite this channel.</p>}
      {data?.study === 'open' && !going && <p className="quiet">Which pictures of the folder, and what in them, excite the channels of {point} most.</p>}
      {going && <Going job={job} />}
      {job?.state === 'failed' && <p className={layer.bad}>{job.error}</p>}
      {data?.histogram && <Histogram histogram={data.histogram} />}
      {data && data.examples.length > 0 && <Patches examples={data.examples} />}
    </section>
  );
}

function Patches({ examples }: { examples: Unit['examples'] }) {
  return (
    <ol className={classes.examples}>
      {examples.map((each) => (
        <li key={`${each.name}${each.box.join()}`}>
          <a href={each.picture} target="_blank" rel="noreferrer" title={each.name}>
            <img src={each.patch} alt={`The part of ${each.name} that excites it`} loading="lazy" />
          </a>
          <a href={each.picture} target="_blank" rel="noreferrer" title={each.name}>
            <img src={each.picture} alt={each.name} loading="lazy" />
          </a>
          <span className="quiet num">{short(each.value)}</span>
        </li>
      ))}
    </ol>
  );
}
