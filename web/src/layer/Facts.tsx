import { client } from '../api/client';
import { useFacts, useTimes } from '../api/queries';
import type { GraphNode } from '../api/types';
import { useMeasure } from '../architecture/useMeasure';
import { compact, milliseconds, shapeText } from '../graph/numbers';
import classes from './layer.module.css';

export function Facts({ net, node }: { net: number; node: GraphNode }) {
  const { data, error } = useFacts(net, node.id);
  const [measure] = useMeasure();
  const { data: times } = useTimes(net, measure === 'time');
  const time = times?.[node.id];
  const facts = data ?? node;
  const rows: [string, string | undefined][] = [
    ['Output', shapeText(facts.shape)],
    ['Parameters', facts.parameters > 0 ? compact(facts.parameters) : 'none'],
    ['Multiply-adds', facts.multiply_adds > 0 ? compact(facts.multiply_adds) : 'none'],
    ['Numbers in its output', compact(facts.activation)],
    ['Measured time', time === undefined ? undefined : milliseconds(time)],
    ['Layout', data?.layout],
    ['Receptive field', data?.receptive_field ? `${data.receptive_field.join(' × ')} pixels` : undefined],
    ['Source', data?.source && tail(data.source)],
    ['Note', facts.note],
  ];
  return (
    <section className={classes.section}>
      {error && <p className={classes.bad}>{error.message}</p>}
      <dl className={classes.facts}>
        {rows.filter(([, value]) => value).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd className={name === 'Source' ? 'mono' : 'num'} title={name === 'Source' ? data?.source : undefined}>{value}</dd>
          </div>
        ))}
      </dl>
      {data?.filters ? (
        <figure>
          <h3>{data.filters} filters</h3>
          <img className={`pixels ${classes.filters}`} src={client.filtersUrl(net, node.id)} alt={`The weights of ${node.id} as ${data.filters} small pictures`} />
        </figure>
      ) : null}
    </section>
  );
}

/** The end of a path says which file it is; all of it would fill the panel. */
function tail(path: string): string {
  return path.split('/').slice(-2).join('/');
}
