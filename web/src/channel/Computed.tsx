import { Button } from '@mantine/core';
import { useMemo } from 'react';
import type { JobRequest, Options } from '../api/types';
import { isActive } from '../jobs/store';
import { useRun } from '../jobs/useRun';
import { usePicture } from '../picture/usePicture';
import { ResultView } from '../results/ResultView';
import { RunView } from '../results/RunView';
import layer from '../layer/layer.module.css';

interface Props {
  title: string;
  net: number;
  method: string;
  address: string;
  options?: Options;
  /** The method takes the current picture, with the channel as its target. */
  onPicture?: boolean;
  video?: boolean;
  large?: boolean;
  /** Its result, where that is there already. */
  known?: { result: string; picture?: string } | undefined;
  /** The name of the picture to begin with. */
  first?: string;
  /** Said before it is computed. */
  hint?: string;
  /** What its button says; with `auto` there is none. */
  does?: string;
  /** It is computed by itself, once this is true. */
  auto?: boolean;
}

const NONE: Options = {};

/** One section of a channel: what a method makes of it, on a button or by itself. */
export function Computed({ title, net, method, address, options = NONE, onPicture = false, video = false, large = false, first, hint, does, known, auto }: Props) {
  const picture = usePicture();
  const image = picture?.id;
  const request = useMemo<JobRequest | null>(() => {
    if (onPicture) return image ? { method, network: net, image, options: { ...options, target: address } } : null;
    return { method, network: net, addresses: [address], options, ...(video ? { video } : {}) };
  }, [method, net, address, options, onPicture, video, image]);
  const run = useRun(request, auto === true && !known);
  const done = known ?? (run.job && (isActive(run.job) || run.job.state === 'done'));
  return (
    <section className={layer.section}>
      <div className={layer.heading}>
        <h3>{title}</h3>
        {!done && request && (auto === undefined || run.job) && <Button onClick={run.run}>{does ?? 'Compute'}</Button>}
      </div>
      {hint && !done && <p className="quiet">{hint}</p>}
      {!request && <p className="quiet">Choose a picture first.</p>}
      {known ? <ResultView id={known.result} large={large} {...(known.picture ? { picture: known.picture } : {})} /> : <RunView run={run} large={large} first={first} />}
    </section>
  );
}
