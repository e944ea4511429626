import { Button } from '@mantine/core';
import { useState } from 'react';
import { client } from '../api/client';
import { usePicture } from '../picture/usePicture';
import layer from '../layer/layer.module.css';
import classes from './channel.module.css';

/** Where in the current picture the channel is active; only for points with places. */
export function Where({ net, address }: { net: number; address: string }) {
  const picture = usePicture();
  const url = picture && client.mapUrl(net, picture.id, address);
  return (
    <section className={layer.section}>
      <h3>Where it is active</h3>
      {url ? <Drawn key={url} url={url} told={`Where in ${picture.name} it is active`} /> : <p className="quiet">Choose a picture to see where in it this channel is active.</p>}
    </section>
  );
}

function Drawn({ url, told }: { url: string; told: string }) {
  const [failed, setFailed] = useState(false);
  if (!failed) return <img className={classes.where} src={url} alt={told} onError={() => setFailed(true)} />;
  return (
    <div className={layer.heading}>
      <p role="alert" className={layer.bad}>This could not be drawn; the server may be busy.</p>
      <Button onClick={() => setFailed(false)}>Try again</Button>
    </div>
  );
}
