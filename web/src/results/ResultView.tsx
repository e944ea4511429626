import { Button } from '@mantine/core';
import { lazy, useEffect, useState } from 'react';
import { ApiError } from '../api/ask';
import { queryClient, useResult } from '../api/queries';
import type { Result, ResultFile } from '../api/types';
import { captionOf } from './caption';
import { Measures } from './Measures';
import { StepChart } from './StepChart';
import { Later } from '../shell/Boundary';
import classes from './results.module.css';

const Reproduce = lazy(() => import('./Reproduce').then((module) => ({ default: module.Reproduce })));

interface Props {
  id: string;
  /** Only the first picture, in full. */
  large?: boolean;
  /** The name of the picture to begin with. */
  first?: string | undefined;
  /** The address of a picture of it, shown until all of it is there. */
  picture?: string;
}

/** A result: its pictures, what it measures, and how to make it again. */
export function ResultView({ id, large = false, first, picture }: Props) {
  const { data, error } = useResult(id);
  const [all, setAll] = useState(false);
  useEffect(() => {
    // It was there when the page asked what is; it is computed again then.
    if (error instanceof ApiError && error.status === 404) void queryClient.invalidateQueries({ queryKey: ['known'] });
  }, [error]);
  if (error) return <p className={classes.bad}>{error.message}</p>;
  if (!data) return picture ? <img className={`pixels ${classes.wide}`} src={picture} alt="" /> : <div className={classes.waiting} />;
  const seen = data.files.filter((file) => file.kind === 'picture' || file.kind === 'video');
  const kept = large ? seen.filter((file) => file.kind === 'video').concat(seen.filter((file) => file.kind === 'picture')).slice(0, 1) : seen;
  const shown = kept.toSorted((a, b) => Number(nameOf(b) === first) - Number(nameOf(a) === first));
  const steps = data.files.find((file) => file.name === 'steps.json');
  const few = all ? shown : shown.slice(0, 12);
  return (
    <div className={classes.result}>
      <div className={few.length > 1 ? classes.pictures : undefined}>
        {few.map((file) => <Shown key={file.name} file={file} result={data} named={few.length > 1} />)}
      </div>
      {few.length < shown.length && <Button onClick={() => setAll(true)}>Show all {shown.length} pictures</Button>}
      {steps && !large && <StepChart file={steps} />}
      {large ? <p className={classes.caption}>{captionOf(data)}</p> : <Measures result={data} />}
      {data.notes.map((note) => <p key={note} className={classes.note}>{note}</p>)}
      <details className={classes.more}>
        <summary>Reproduce</summary>
        <Later>
          <Reproduce result={data} />
        </Later>
      </details>
    </div>
  );
}

function nameOf(file: ResultFile): string {
  return file.name.replace(/\.[a-z0-9]+$/, '');
}

function Shown({ file, result, named }: { file: ResultFile; result: Result; named: boolean }) {
  const name = nameOf(file).replaceAll(/[-_]/g, ' ');
  const label = `${result.method}: ${name}`;
  // Animated pictures are videos too; only these formats need a player.
  const [wide, setWide] = useState(false);
  const plays = /\.(mp4|webm)$/.test(file.name);
  return (
    <figure>
      {plays ? <video className="pixels" src={file.url} controls loop muted playsInline aria-label={label} /> : (
        <a className={`${classes.opens} ${wide ? classes.several : ''}`} href={file.url} target="_blank" rel="noreferrer" title="Open it in its own size">
          <img className={`pixels ${classes.wide}`} src={file.url} alt={label} onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => setWide(naturalWidth > 1.8 * naturalHeight)} />
        </a>
      )}
      {named && <figcaption className="quiet">{name}</figcaption>}
    </figure>
  );
}
