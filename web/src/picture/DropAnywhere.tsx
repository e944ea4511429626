import { CloseButton } from '@mantine/core';
import { useEffect, useState } from 'react';
import { useUpload } from './useUpload';
import classes from './picture.module.css';

/** A picture that is dropped on any place of the page becomes the current one. */
export function DropAnywhere() {
  const [over, setOver] = useState(false);
  const { mutate, error, isPending, reset } = useUpload();
  useEffect(() => {
    const carries = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    const moved = (event: DragEvent) => {
      if (!carries(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const left = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const dropped = (event: DragEvent) => {
      if (!carries(event)) return;
      event.preventDefault();
      setOver(false);
      const file = event.dataTransfer?.files[0];
      if (file) mutate(file);
    };
    window.addEventListener('dragover', moved);
    window.addEventListener('dragleave', left);
    window.addEventListener('drop', dropped);
    return () => {
      window.removeEventListener('dragover', moved);
      window.removeEventListener('dragleave', left);
      window.removeEventListener('drop', dropped);
    };
  }, [mutate]);
  return (
    <>
      {over && <div className={classes.over}>Drop the picture to look at it</div>}
      {(error || isPending) && (
        <div className={classes.toast} role={error ? 'alert' : 'status'}>
          {error ? error.message : 'Reading the picture'}
          {error && <CloseButton size="sm" aria-label="Close" onClick={reset} />}
        </div>
      )}
    </>
  );
}
