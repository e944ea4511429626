import { Button, CloseButton, FileButton } from '@mantine/core';
import { client } from '../api/client';
import { useImages } from '../api/queries';
import { go } from '../route/useRoute';
import { Icon } from '../shell/icons';
import { useOpenSession } from '../shell/session';
import { Answers } from './Answers';
import { ownFirst } from './ownFirst';
import { usePicture } from './usePicture';
import { useUpload } from './useUpload';
import classes from './picture.module.css';

/** The current picture, what each network answers to it, and all that can be chosen. */
export function PicturePicker() {
  const session = useOpenSession();
  const picture = usePicture();
  const { data: images, error } = useImages();
  const upload = useUpload();
  return (
    <section className={classes.picker} aria-label="Picture">
      {picture ? (
        <figure className={classes.current}>
          <img key={picture.id} className="pixels" fetchPriority="high" src={client.pictureUrl(picture.id, session.networks[0]?.id)} alt={picture.name} />
          <figcaption>
            <strong title={picture.name}>{picture.name}</strong> <span className="quiet num">{picture.width} × {picture.height}</span>
          </figcaption>
        </figure>
      ) : (
        <p className="quiet">{error ? error.message : 'Choose a picture below, or drop one on the page.'}</p>
      )}
      {picture && session.networks.map((net) => <Answers key={net.id} net={net} image={picture.id} named={session.networks.length > 1} />)}
      {!session.reading && (
        <FileButton accept="image/*" onChange={(file) => file && upload.mutate(file)}>
          {(props) => (
            <Button {...props} fullWidth loading={upload.isPending} leftSection={<Icon name="upload" size={14} />}>
              Open a picture
            </Button>
          )}
        </FileButton>
      )}
      {upload.error && (
        <p role="alert" className={classes.refused}>
          {upload.error.message}
          <CloseButton size="sm" aria-label="Close this message" onClick={upload.reset} />
        </p>
      )}
      <ul className={classes.thumbs} aria-label="Pictures">
        {images && ownFirst(images).map((each) => (
          <li key={each.id}>
            <button type="button" className={classes.thumb} aria-pressed={each.id === picture?.id} onClick={() => go({ image: each.id }, true)} title={each.name}>
              <img src={client.pictureUrl(each.id)} alt={each.name} loading="lazy" />
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
