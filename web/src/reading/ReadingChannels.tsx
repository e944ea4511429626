import { Button, SegmentedControl } from '@mantine/core';
import { memo, use, useState } from 'react';
import { useSheets } from '../api/queries';
import { sheetUrl } from '../api/reading';
import { short } from '../graph/numbers';
import layer from '../layer/layer.module.css';
import { useOrder } from '../layer/useOrder';
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
  const order = useOrder(net, point, units);
  const [count, setCount] = useState(PAGE);
  const values = order.values[order.by] ?? data?.scores;

  return (
    <section className={layer.section}>
      <div className={layer.heading}>
        <h3>{units} channels</h3>
        {there && (
          <SegmentedControl
            aria-label="Order of the channels"
            value={order.by}
            onChange={order.setBy}
            data={[
              { value: 'number', label: 'Number' },
              ...(order.values.activation ? [{ value: 'activation', label: 'Activation' }] : []),
              { value: 'score', label: 'Score' },
            ]}
          />
        )}
      </div>
      {!there && <NoPictures />}
      {error && <p role="alert" className={layer.bad}>{error.message}</p>}
      {data && (
        <ol className={layer.tiles}>
          {order.units.slice(0, count).map((unit) => {
            const place = placeOf(data, unit);
            return (
              <Tile
                key={unit}
                point={point}
                unit={unit}
                href={linkTo(route, { net, point, unit })}
                style={background(sheetUrl(net, point, place.first), place)}
                value={values?.[unit]}
                told={order.by === 'activation' ? 'Largest activation in the photographs' : 'Score'}
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
  value: number | undefined;
  /** What the value is. */
  told: string;
}

const Tile = memo(function Tile({ point, unit, href, style, value, told }: TileProps) {
  return (
    <li>
      <a className={layer.tile} href={href}>
        <span className={classes.tile} style={style} role="img" aria-label={`What channel ${unit} of ${point} looks for`} />
        <span className={layer.tileFoot}>
          <span><span className="hidden">Channel </span>{unit}</span>
          <span className="quiet" title={told}>{value === undefined ? '' : short(value)}</span>
        </span>
      </a>
    </li>
  );
});
