import { ActionIcon, Tooltip } from '@mantine/core';
import { useHotkeys } from '@mantine/hooks';
import { isReading } from '../api/client';
import { useArchitecture, useKnown } from '../api/queries';
import { ReadingChannel } from '../reading/ReadingChannel';
import { addressOf } from '../route/route';
import { go, linkTo, useRoute } from '../route/useRoute';
import { Icon } from '../shell/icons';
import { PerNetwork } from '../shell/PerNetwork';
import { useMade } from '../layer/useTiles';
import { beside } from '../layer/order';
import { useOrder } from '../layer/useOrder';
import { useUnitNames } from '../layer/useUnitNames';
import layer from '../layer/layer.module.css';
import { Ablation } from './Ablation';
import { Computed } from './Computed';
import { Examples } from './Examples';
import { usePainted } from './usePainted';
import { Where } from './Where';
import classes from './channel.module.css';

export function ChannelPage({ point, unit, units }: { point: string; unit: number; units: number }) {
  const route = useRoute();
  const order = useOrder(route.net, point, units);
  const step = (by: number) => go({ unit: beside(order.units, unit, by) }, true);
  const name = useUnitNames(route.net, point)?.[unit];
  useHotkeys([['[', () => step(-1)], [']', () => step(1)]]);
  return (
    <div className={layer.panel}>
      <header className={classes.head}>
        <div>
          <h2 className={layer.title}>
            <a href={linkTo(route, { unit: null })}>{point}</a>/{unit}
          </h2>
          {name && <p><strong>{name}</strong></p>}
          <p className="quiet">Channel {unit}, of 0 to {units - 1}{order.by !== 'number' && `; ${order.units.indexOf(unit) + 1} of ${units} by ${order.by}`}</p>
        </div>
        <div className={classes.steps}>
          <Tooltip label="Previous channel  [">
            <ActionIcon size="lg" aria-label="Previous channel" onClick={() => step(-1)}><Icon name="previous" /></ActionIcon>
          </Tooltip>
          <Tooltip label="Next channel  ]">
            <ActionIcon size="lg" aria-label="Next channel" onClick={() => step(1)}><Icon name="next" /></ActionIcon>
          </Tooltip>
        </div>
      </header>
      <PerNetwork>{(net) => <Channel key={`${point}/${unit}`} net={net} point={point} unit={unit} />}</PerNetwork>
    </div>
  );
}

function Channel({ net, point, unit }: { net: number; point: string; unit: number }) {
  const { data } = useArchitecture(net);
  const { data: known, isPending } = useKnown(net, point);
  const made = useMade(net).get(addressOf(point, unit));
  const painted = usePainted();
  if (!data) return <p className="quiet">Reading the network</p>;
  const node = data.nodes.find((each) => each.id === point);
  const address = addressOf(point, unit);
  if (!node?.units || unit >= node.units) return <p className="quiet">This network has no channel {address}.</p>;
  if (isReading) return <ReadingChannel net={net} point={point} unit={unit} />;
  return (
    <>
      <Computed title="What it looks for" net={net} method="feature-visualization" address={address} known={known?.[address] ?? (made === undefined ? undefined : { result: made })} auto={!isPending} large />
      {painted && <Further net={net} point={point} address={address} placed={node.grid !== null} />}
    </>
  );
}

/** What is not looked at first. */
function Further({ net, point, address, placed }: { net: number; point: string; address: string; placed: boolean }) {
  return (
    <>
      {placed && <Where net={net} address={address} />}
      <Ablation net={net} address={address} />
      <Computed title="Its pixels in the picture" net={net} method="saliency" address={address} onPicture does="Find them" />
      <Examples net={net} point={point} address={address} />
      <Computed title="Unlike one another" net={net} method="feature-visualization" address={address} options={DIVERSE} does="Make four" first="variants" />
      <Computed title="What it avoids" {...(placed ? { hint: SILENT } : {})} net={net} method="feature-visualization" address={`-1 * ${address}`} does="Minimize it" large />
      <Computed title="The way there" net={net} method="feature-visualization" address={address} video does="Make a video" large />
    </>
  );
}

const SILENT = 'A channel that is never below 0, as after a ReLU, can only be kept silent.';
const DIVERSE = { diverse: 4 };
