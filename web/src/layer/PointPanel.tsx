import { useEffect } from 'react';
import type { Architecture, GraphNode } from '../api/types';
import { useArchitecture } from '../api/queries';
import { client, isReading } from '../api/client';
import { ReadingChannels } from '../reading/ReadingChannels';
import { Pictured } from '../reading/Pictured';
import { ChannelPage } from '../channel/ChannelPage';
import { usePicture } from '../picture/usePicture';
import { aliased } from '../route/route';
import { go, useRoute } from '../route/useRoute';
import { PerNetwork } from '../shell/PerNetwork';
import { netOf, useOpenSession } from '../shell/session';
import { ChannelGrid } from './ChannelGrid';
import { Facts } from './Facts';
import classes from './layer.module.css';

export function PointPanel({ architecture }: { architecture: Architecture }) {
  const { point, unit, net } = useRoute();
  const { logits } = netOf(useOpenSession(), net);
  const node = architecture.nodes.find((each) => each.id === point);
  const meant = node ? null : aliased({ point, unit }, logits, architecture.nodes.find((each) => each.kind === 'input')?.id);
  useEffect(() => {
    if (meant) go(meant, true);
  });
  if (meant) return null;
  if (!point) {
    return (
      <div className={classes.empty}>
        <p>Select a node of the graph to see its channels. Double-click a block to look inside.</p>
        {isReading && <Pictured />}
      </div>
    );
  }
  if (!node) return <p className={classes.empty}>There is no point {point} in {architecture.name}. Choose another in the graph.</p>;
  if (unit !== null && node.units !== null && unit >= 0 && unit < node.units) return <ChannelPage point={point} unit={unit} units={node.units} />;
  return (
    <div className={classes.panel}>
      <header>
        <h2 className={classes.title}>{node.id}</h2>
        <p className="quiet">{node.module || 'image'}</p>
        {unit !== null && <p role="alert" className={classes.bad}>{noUnit(node)}</p>}
      </header>
      <PerNetwork>{(net) => <Layer key={point} net={net} point={point} />}</PerNetwork>
    </div>
  );
}

function Layer({ net, point }: { net: number; point: string }) {
  const { data } = useArchitecture(net);
  const node = data?.nodes.find((each) => each.id === point);
  if (!data) return <p className="quiet">Reading the network</p>;
  if (!node) return <p className="quiet">This network has no point {point}.</p>;
  if (node.kind === 'input') return <Input />;
  return node.point ? <Point net={net} node={node} /> : <p className="quiet">{whyNot(node)}</p>;
}

const Channels = isReading ? ReadingChannels : ChannelGrid;

function Point({ net, node }: { net: number; node: GraphNode }) {
  return (
    <>
      <Facts net={net} node={node} />
      {node.units ? <Channels net={net} point={node.id} units={node.units} /> : <p className="quiet">This point has no channels that could be addressed. {node.note}</p>}
    </>
  );
}

function noUnit(node: GraphNode): string {
  const held = node.units === null ? 'it has none that could be addressed' : `it has ${node.units}, 0 to ${node.units - 1}`;
  return `There is no such channel in ${node.id}; ${held}.`;
}

/** The picture itself. */
function Input() {
  const picture = usePicture();
  return (
    <>
      <p className="quiet">This is the picture that the network is given. Select a node below to see what is made of it.</p>
      {picture && !isReading && <img className="pixels" src={client.pictureUrl(picture.id)} alt={picture.name} style={{ maxWidth: '100%' }} />}
    </>
  );
}

function whyNot(node: GraphNode): string {
  // The last operation of a module: its values have the name of that.
  if (node.kind === 'operation') return `What it gives is what ${node.parent} gives: select that to see its channels. ${node.note}`;
  return `This is no point of its own: several tensors leave it, or none. Unfold it and select what is inside. ${node.note}`;
}
