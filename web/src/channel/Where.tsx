import { useState } from 'react';
import { client } from '../api/client';
import { usePicture } from '../picture/usePicture';
import layer from '../layer/layer.module.css';
import classes from './channel.module.css';

/** Where in the current picture the channel is active; only for points with places. */
export function Where({ net, address }: { net: number; address: string }) {
  const picture = usePicture();
  const [failed, setFailed] = useState<string | null>(null);
  const url = picture ? client.mapUrl(net, picture.id, address) : null;
  return (
    <section className={layer.section}>
      <h3>Where it is active</h3>
      {!url && <p className="quiet">Choose a picture to see where in it this channel is active.</p>}
      {url && url !== failed && <img className={classes.where} src={url} alt={`Where in ${picture?.name} it is active`} onError={() => setFailed(url)} />}
      {url && url === failed && <p className={layer.bad}>This could not be drawn; the server may be busy. Choose the picture again.</p>}
    </section>
  );
}
