import { Button, SegmentedControl, Switch } from '@mantine/core';
import { memo, useMemo, useState, type Ref } from 'react';
import { client } from '../api/client';
import { useArchitecture, useKnown, useResult } from '../api/queries';
import type { Architecture, Job, Known } from '../api/types';
import { short } from '../graph/numbers';
import { usePicture } from '../picture/usePicture';
import { addressOf } from '../route/route';
import { linkTo, useRoute } from '../route/useRoute';
import { useKept } from '../shell/useKept';
import { useUnitNames } from './useUnitNames';
import { useOrder } from './useOrder';
import { useTiles } from './useTiles';
import { mapOf } from './where';
import classes from './layer.module.css';

/** Up to so many channels, pictures are made without asking. */
const FEW = 64;
const PAGE = 128;
const NONE: Known = {};

export function ChannelGrid({ net, point, units }: { net: number; point: string; units: number }) {
  const picture = usePicture();
  const route = useRoute();
  const [making, setMaking] = useState(units <= FEW);
  const order = useOrder(net, point, units, true);
  const [where, setWhere] = useKept('where in the picture', true);
  const { data: architecture } = useArchitecture(net);
  const placed = architecture?.nodes.find((each) => each.id === point)?.grid != null;
  const maps = where && placed && picture ? client.mapsUrl(net, picture.id, point) : null;
  const [count, setCount] = useState(PAGE);
  const { data: known, isPending } = useKnown(net, point);
  const { results, watch, error } = useTiles(net, making && !isPending, known ?? NONE);

  const names = useUnitNames(net, point);
  // Without an order of their own, the bars are the answers to the picture.
  const values = order.values[order.by] ?? order.values.activation;
  const most = useMemo(() => Math.max(0, ...(values ?? [])), [values]);

  return (
    <section className={classes.section}>
      <div className={`${classes.heading} ${classes.controls}`}>
        <h3>{units} channels</h3>
        <Switch label="Make pictures" checked={making} onChange={(event) => setMaking(event.currentTarget.checked)} />
        {placed && picture && <Switch label="Show where" title="Where in the picture each channel is active" checked={where} onChange={(event) => setWhere(event.currentTarget.checked)} />}
        <SegmentedControl
          aria-label="Order of the channels"
          value={order.by}
          onChange={order.setBy}
          data={[
            { value: 'number', label: 'Number' },
            { value: 'activation', label: 'Activation' },
            { value: 'sensitivity', label: 'Sensitivity', disabled: !order.values.sensitivity },
          ]}
        />
      </div>
      {error && <p role="alert" className={classes.bad}>{error}</p>}
      {!picture && <p className="quiet">Choose a picture to see how strongly each channel answers to it.</p>}
      {picture && <p className={classes.meaning}>{meaning(order.by, order.attack)}</p>}
      <ol className={`${classes.tiles} ${maps ? classes.twofold : ''}`}>
        {order.units.slice(0, count).map((unit) => {
          const address = addressOf(point, unit);
          return (
            <Tile
              key={unit}
              ref={watch}
              unit={unit}
              name={names?.[unit]}
              address={address}
              href={linkTo(route, { net, point, unit })}
              known={known?.[address]?.picture}
              result={results.get(address)}
              value={values?.[unit]}
              most={most}
              maps={maps}
              units={units}
              size={architecture?.size}
            />
          );
        })}
      </ol>
      {count < units && <Button onClick={() => setCount(count + PAGE)}>Show {Math.min(PAGE, units - count)} more</Button>}
    </section>
  );
}

function meaning(order: string, attack: Job | undefined): string {
  if (order === 'sensitivity') return `How much ${attack?.method} changed each channel in this picture, as the mean over its places.`;
  const bars = 'Numbers and bars are the largest activations in the picture.';
  return attack ? bars : `${bars} After an attack on it, channels are also sorted by sensitivity.`;
}

interface TileProps {
  ref: Ref<HTMLLIElement>;
  unit: number;
  /** Of a class. */
  name: string | undefined;
  address: string;
  href: string;
  known: string | undefined;
  result: string | undefined;
  value: number | undefined;
  most: number;
  /** The sheet of the maps of all channels. */
  maps: string | null;
  units: number;
  /** Of the picture. */
  size: Architecture['size'] | undefined;
}

const Tile = memo(function Tile({ ref, unit, name, address, href, known, result, value, most, maps, units, size }: TileProps) {
  const { data } = useResult(known ? undefined : result);
  const picture = known ?? data?.files.find((file) => file.kind === 'picture')?.url;
  return (
    <li ref={ref} data-address={address}>
      <a className={classes.tile} href={href}>
        <span className={classes.seen}>
          {picture ? <img src={picture} alt="" loading="lazy" /> : <span className={classes.blank} />}
          {maps && size && <span className={classes.map} style={mapOf(maps, unit, units, size)} />}
        </span>
        <span className={classes.tileFoot}>
          <span className={classes.tileName} title={name}><span className="hidden">Channel </span>{unit} {name}</span>
          <span className="quiet">{value === undefined ? '' : short(value)}</span>
        </span>
        <span className={classes.track}>
          <span className={classes.bar} style={{ width: `${most > 0 && value ? Math.max(0, (100 * value) / most) : 0}%` }} />
        </span>
      </a>
    </li>
  );
});
