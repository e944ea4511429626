import { ActionIcon } from '@mantine/core';
import { useLocalStorage } from '@mantine/hooks';
import { useState, type KeyboardEvent, type PointerEvent, type ReactNode, type Ref } from 'react';
import { Icon } from './icons';
import classes from './shell.module.css';

const LEAST = 320;
const STEP = 32;

interface Props {
  ref: Ref<HTMLElement>;
  narrow: boolean;
  wide: boolean;
  close: () => void;
  children: ReactNode;
}

/** Beside the graph, as wide as one wants; on a phone a sheet from below that can cover the page. */
export function SidePanel({ ref, narrow, wide, close, children }: Props) {
  const [width, setWidth] = useLocalStorage({ key: wide ? 'inward-panel-two' : 'inward-panel', defaultValue: wide ? 640 : 440, getInitialValueInEffect: false });
  const [full, setFull] = useState(false);
  const most = () => Math.max(LEAST, window.innerWidth - 320);
  const resize = (next: number) => setWidth(Math.round(Math.min(most(), Math.max(LEAST, next))));
  const drag = (event: PointerEvent<HTMLDivElement>) => {
    if (event.currentTarget.hasPointerCapture(event.pointerId)) resize(window.innerWidth - event.clientX);
  };
  const keyed = (event: KeyboardEvent) => {
    if (event.key === 'ArrowLeft') resize(width + STEP);
    else if (event.key === 'ArrowRight') resize(width - STEP);
    else return;
    event.preventDefault();
  };
  if (narrow) {
    return (
      <aside ref={ref} tabIndex={-1} aria-label="Selected point" className={`${classes.sheet} ${full ? classes.whole : ''}`}>
        <div className={classes.grip}>
          <ActionIcon aria-label={full ? 'Make the sheet smaller' : 'Make the sheet larger'} onClick={() => setFull(!full)}>
            <Icon name={full ? 'down' : 'larger'} />
          </ActionIcon>
          <ActionIcon aria-label="Close the sheet" onClick={close}>
            <Icon name="close" />
          </ActionIcon>
        </div>
        {children}
      </aside>
    );
  }
  return (
    <>
      <div
        role="separator"
        tabIndex={0}
        aria-orientation="vertical"
        aria-label="Width of the panel"
        aria-valuenow={width}
        aria-valuemin={LEAST}
        aria-valuemax={most()}
        className={classes.splitter}
        onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
        onPointerMove={drag}
        onKeyDown={keyed}
      />
      <aside ref={ref} tabIndex={-1} aria-label="Selected point" className={classes.panel} style={{ width: `min(${width}px, calc(100vw - 320px))` }}>
        {children}
      </aside>
    </>
  );
}
