import { Popover, ScrollArea, UnstyledButton } from '@mantine/core';
import { client } from '../api/client';
import { useAnswers } from '../api/queries';
import { percent } from '../graph/numbers';
import { usePart } from '../route/useRoute';
import { netOf, useOpenSession } from '../shell/session';
import { PicturePicker } from './PicturePicker';
import { usePicture } from './usePicture';
import classes from './picture.module.css';

/** The current picture and its first answer, in reach wherever one is; it opens the choice of pictures. */
export function PictureChip() {
  const session = useOpenSession();
  const picture = usePicture();
  const net = netOf(session, usePart('net'));
  const { data } = useAnswers(net.id, picture?.id ?? null);
  const first = data?.top[0];
  return (
    <Popover width={300} position="bottom-end" shadow="md" trapFocus>
      <Popover.Target>
        <UnstyledButton className={classes.chip} >
          <span className="hidden">Picture</span>
          {picture && <img key={picture.id} src={client.pictureUrl(picture.id)} alt="" width={30} height={30} />}
          <span className={classes.chipText}>
            <span>{picture?.name ?? 'Choose a picture'}</span>
            {first && <span className="quiet num">{first.label} {percent(first.probability)}</span>}
          </span>
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown p={0} aria-label="Picture">
        <ScrollArea.Autosize mah="min(640px, 80dvh)" scrollbars="y" scrollbarSize={10} viewportProps={{ tabIndex: 0 }}>
          <div className={classes.list}>
            <PicturePicker />
          </div>
        </ScrollArea.Autosize>
      </Popover.Dropdown>
    </Popover>
  );
}
