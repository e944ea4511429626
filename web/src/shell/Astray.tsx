import { useImages } from '../api/queries';
import type { Session } from '../api/types';
import { usePart } from '../route/useRoute';
import { netOf } from './session';
import classes from './shell.module.css';

/** What an address names and is not there: said, since something else is shown in its place. */
export function Astray({ session }: { session: Session }) {
  const net = usePart('net');
  const image = usePart('image');
  const { data: images } = useImages();
  const told = [
    ...(session.networks[net] ? [] : [`There is no network ${net} here; this is ${netOf(session, net).name}.`]),
    ...(image === null || session.reading || !images || images.some((each) => each.id === image) ? [] : [`There is no picture ${image} here; ${images[0] ? `this is ${images[0].name}` : 'choose one'}.`]),
  ];
  return told.length === 0 ? null : <p role="alert" className={classes.away}>{told.join(' ')}</p>;
}
