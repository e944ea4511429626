import { useAblation } from '../api/queries';
import { Bars } from '../picture/Answers';
import { usePicture } from '../picture/usePicture';
import layer from '../layer/layer.module.css';
import classes from './channel.module.css';

/** What the network answers with the channel, and with the channel set to 0. */
export function Ablation({ net, address }: { net: number; address: string }) {
  const picture = usePicture();
  const { data, error } = useAblation(net, picture?.id ?? null, address);
  return (
    <section className={layer.section}>
      <h3>Without it</h3>
      {!picture && <p className="quiet">Choose a picture to see what the network answers without this channel.</p>}
      {error && <p className={layer.bad}>{error.message}</p>}
      {data && (
        <div className={classes.pair}>
          <div>
            <h4>As it is</h4>
            <Bars top={data.before} label="Answers with the channel" />
          </div>
          <div>
            <h4>Set to 0</h4>
            <Bars top={data.after} label="Answers without the channel" />
          </div>
        </div>
      )}
    </section>
  );
}
