import { Button, SegmentedControl } from '@mantine/core';
import { useLocalStorage } from '@mantine/hooks';
import { memo, use, useMemo, useState } from 'react';
import { useSheets } from '../api/queries';
import { sheetUrl } from '../api/reading';
import { short } from '../graph/numbers';
import layer from '../layer/layer.module.css';
import { ordered } from '../layer/order';
import { linkTo, useRoute } from '../route/useRoute';
import { background, placeOf } from './place';
import { NoPictures, PicturedPoints } from './Pictured';
import classes from './reading.module.css';

const PAGE = 128;

/** The channels of a point, as the atlas has them. */
export function ReadingChannels({ net, point, units }: { net: number; point: string; units: number }) {
  const route = useRoute();
  const there = use(PicturedPoints).includes(point);
  const { data, error } = useSheets(net, point, there);
  const [order, setOrder] = useLocalStorage({ key: 'inward-order', defaultValue: 'number', getInitialValueInEffect: false });
  const [count, setCount] = useState(PAGE);
  const sorted = useMemo(() => ordered(units, order === 'score' ? data?.scores : undefined), [units, order, data]);

  return (
    <section className={layer.section}>
      <div className={layer.heading}>
        <h3>{units} channels</h3>
        {there && (
          <SegmentedControl
            aria-label="Order of the channels"
            value={order}
            onChange={setOrder}
            data={[{ value: 'number', label: 'Number' }, { value: 'score', label: 'Score' }]}
          />
        )}
      </div>
      {!there && <NoPictures />}
      {error && <p role="alert" className={layer.bad}>{error.message}</p>}
      {data && (
        <ol className={layer.tiles}>
          {sorted.slice(0, count).map((unit) => {
            const place = placeOf(data, unit);
            return (
              <Tile
                key={unit}
                point={point}
                unit={unit}
                href={linkTo(route, { net, point, unit })}
                style={background(sheetUrl(net, point, place.first), place)}
                score={data.scores[unit]}
              />
            );
          })}
        </ol>
      )}
      {data && count < units && <Button onClick={() => setCount(count + PAGE)}>Show {Math.min(PAGE, units - count)} more</Button>}
    </section>
  );
}

interface TileProps {
  point: string;
  unit: number;
  href: string;
  style: ReturnType<typeof background>;
  score: number | undefined;
}

const Tile = memo(function Tile({ point, unit, href, style, score }: TileProps) {
  return (
    <li>
      <a className={layer.tile} href={href}>
        <span className={classes.tile} style={style} role="img" aria-label={`What channel ${unit} of ${point} looks for`} />
        <span className={layer.tileFoot}>
          <span><span className="hidden">Channel </span>{unit}</span>
          <span className="quiet" title="Score">{score === undefined ? '' : short(score)}</span>
        </span>
      </a>
    </li>
  );
});
