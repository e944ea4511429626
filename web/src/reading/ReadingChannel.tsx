import { use } from 'react';
import { useSheets } from '../api/queries';
import { sheetUrl } from '../api/reading';
import type { Sheets } from '../api/types';
import { Histogram } from '../channel/Histogram';
import { short } from '../graph/numbers';
import layer from '../layer/layer.module.css';
import { background, patchOf, placeOf } from './place';
import { NoPictures, PicturedPoints } from './Pictured';
import classes from './reading.module.css';

/** One channel, as the atlas has it. */
export function ReadingChannel({ net, point, unit }: { net: number; point: string; unit: number }) {
  const there = use(PicturedPoints).includes(point);
  const { data, error } = useSheets(net, point, there);
  if (!there) return <NoPictures />;
  if (error) return <p role="alert" className={layer.bad}>{error.message}</p>;
  if (!data) return <p className="quiet">Reading the atlas</p>;
  const place = placeOf(data, unit);
  const score = data.scores[unit];
  return (
    <>
      <section className={layer.section}>
        <h3>What it looks for</h3>
        <div
          className={classes.large}
          style={background(sheetUrl(net, point, place.first), place)}
          role="img"
          aria-label={`What channel ${unit} of ${point} looks for`}
        />
        {score !== undefined && <p className="num">Score {short(score)}</p>}
      </section>
      {data.units[unit] && <Photographs net={net} point={point} unit={unit} sheets={data} told={data.units[unit]} />}
    </>
  );
}

interface PhotographsProps {
  net: number;
  point: string;
  unit: number;
  sheets: Sheets;
  told: NonNullable<Sheets['units'][number]>;
}

/** What excites the channel in real pictures. */
function Photographs({ net, point, unit, sheets, told }: PhotographsProps) {
  return (
    <section className={layer.section}>
      <h3>In photographs</h3>
      <ol className={classes.patches}>
        {told.examples.slice(0, sheets.patches).map((each, index) => {
          const place = patchOf(sheets, unit, index);
          return (
            <li key={index}>
              <div
                className={classes.patch}
                style={background(sheetUrl(net, point, place.first, true), place)}
                role="img"
                aria-label={`The part of ${each.name} that excites it`}
              />
              <span className="num">{short(each.value)}</span>
              <span className={`${classes.name} quiet`} title={each.name}>{each.name}</span>
            </li>
          );
        })}
      </ol>
      <Histogram histogram={told.histogram} />
    </section>
  );
}
