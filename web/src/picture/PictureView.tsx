import { Loader, Tabs } from '@mantine/core';
import { lazy, useMemo } from 'react';
import { useMethods } from '../api/queries';
import type { Method } from '../api/types';
import { addressOf, type Route } from '../route/route';
import { go, useRoute } from '../route/useRoute';
import { netOf, useOpenSession } from '../shell/session';
import { PicturePicker } from './PicturePicker';
import { usePicture } from './usePicture';
import { Later } from '../shell/Boundary';
import classes from './picture.module.css';

const CommandTab = lazy(() => import('../methods/CommandTab').then((module) => ({ default: module.CommandTab })));

/** A picture, and everything that methods can do with it: a tab for each command that there is. */
export function PictureView() {
  const route = useRoute();
  const picture = usePicture();
  const { data: methods, error } = useMethods();
  const commands = useMemo(() => byCommand(methods ?? []), [methods]);
  const tab = route.tab && commands.has(route.tab) ? route.tab : ([...commands.keys()][0] ?? null);
  const { logits } = netOf(useOpenSession(), route.net);
  const address = selected(route, logits);
  return (
    <div className={classes.view}>
      <aside className={classes.side}>
        <PicturePicker />
      </aside>
      <div className={classes.work}>
        {error && <p className={classes.bad}>{error.message}</p>}
        {!methods && !error && <Loader size="sm" aria-label="Reading the methods" />}
        <Tabs value={tab} onChange={(next) => next && go({ view: 'picture', tab: next }, true)} keepMounted={false}>
          <Tabs.List aria-label="What to do with the picture">
            {[...commands.keys()].map((command) => (
              <Tabs.Tab key={command} value={command}>{titled(command)}</Tabs.Tab>
            ))}
          </Tabs.List>
          {[...commands].map(([command, each]) => (
            <Tabs.Panel key={command} value={command}>
              <Later>
                <CommandTab command={command} methods={each} image={picture?.id ?? null} address={address} />
              </Later>
            </Tabs.Panel>
          ))}
        </Tabs>
      </div>
    </div>
  );
}

/** What is selected in the network, as methods take it: a channel of the logits is a class. */
function selected({ point, unit }: Route, logits: string | null): string | null {
  if (point === null || unit === null || unit < 0) return point;
  return point === logits ? `class:${unit}` : addressOf(point, unit);
}

function byCommand(methods: readonly Method[]): Map<string, Method[]> {
  const found = new Map<string, Method[]>();
  for (const method of methods) found.set(method.command, [...(found.get(method.command) ?? []), method]);
  return found;
}

function titled(command: string): string {
  return command.charAt(0).toUpperCase() + command.slice(1);
}
