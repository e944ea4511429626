import '@xyflow/react/dist/base.css';
import { ActionIcon, Select, Tooltip } from '@mantine/core';
import { useLocalStorage } from '@mantine/hooks';
import { ReactFlowProvider } from '@xyflow/react';
import { memo, useCallback, useEffect, useMemo, useState } from 'react';
import { useTimes } from '../api/queries';
import type { Architecture } from '../api/types';
import { everything, initialFold, reveal, shownOf, type Unfolded } from '../graph/fold';
import type { Direction } from '../graph/form';
import { MEASURES, scaleOf, type Measure } from '../graph/scale';
import { treeOf } from '../graph/tree';
import { usePart } from '../route/useRoute';
import { Icon } from '../shell/icons';
import { Crumbs } from './Crumbs';
import { Graph } from './Graph';
import { Search } from './Search';
import { OFFERED, useMeasure } from './useMeasure';
import classes from './graph.module.css';

/** What was open in each network, while the page is. */
const opened = new Map<string, Unfolded>();

interface Props {
  net: number;
  architecture: Architecture;
  select: (id: string | null, open?: boolean) => void;
}

export const ArchitecturePane = memo(function ArchitecturePane({ net, architecture, select }: Props) {
  const point = usePart('point');
  const tree = useMemo(() => treeOf(architecture.nodes, architecture.edges), [architecture]);
  const selected = point && tree.nodes.has(point) ? point : null;
  const [unfolded, setOpen] = useState<Unfolded>(() => {
    const held = opened.get(architecture.name) ?? initialFold(tree);
    return selected ? reveal(tree, held, selected) : held;
  });
  const [direction, setDirection] = useLocalStorage<Direction>({ key: 'inward-direction', defaultValue: 'down', getInitialValueInEffect: false });
  const [measure, setMeasure] = useMeasure();
  const { data: times, error: untimed } = useTimes(net, measure === 'time');
  const [fitted, setFitted] = useState(0);
  const [centered, setCentered] = useState(() => (selected && !opened.has(architecture.name) ? 1 : 0));

  const setUnfolded = useCallback((next: Unfolded) => {
    opened.set(architecture.name, next);
    setOpen(next);
  }, [architecture.name]);
  const find = useCallback((id: string) => {
    setUnfolded(reveal(tree, unfolded, id));
    setCentered((count) => count + 1);
    select(id);
  }, [tree, unfolded, setUnfolded, select]);
  useEffect(() => {
    // A link inside the page can lead to what is folded.
    if (selected) setOpen((held) => reveal(tree, held, selected));
  }, [selected, tree]);

  const scale = useMemo(() => scaleOf(measure, shownOf(tree, unfolded).filter((each) => !each.group).map((each) => tree.nodes.get(each.id)!), times), [measure, tree, unfolded, times]);
  const measuring = measure !== 'time' ? null : untimed ? untimed.message : !times ? 'Measuring' : Object.keys(times).length === 0 ? 'Operations of a network without a graph cannot be timed.' : null;
  const turn = direction === 'down' ? 'Draw from left to right' : 'Draw from top to bottom';
  return (
    <section className={classes.pane} aria-label={`Architecture of ${architecture.name}`}>
      <div className={classes.bar}>
        <Crumbs tree={tree} name={architecture.name} selected={selected} select={(id) => (id ? find(id) : select(null))} />
        <Search tree={tree} find={find} />
        <Select
          aria-label="Color by"
          className={classes.measure}
          allowDeselect={false}
          value={measure}
          onChange={(value) => setMeasure(value as Measure)}
          data={OFFERED.map((value) => ({ value, label: MEASURES[value] }))}
        />
        <Tool label={turn} icon={direction === 'down' ? 'toRight' : 'toBottom'} run={() => setDirection(direction === 'down' ? 'right' : 'down')} />
        <Tool label="Fold as at first" icon="fold" run={() => { setUnfolded(initialFold(tree)); setFitted((count) => count + 1); }} />
        <Tool label="Unfold everything" icon="unfold" run={() => setUnfolded(everything(tree))} />
        <Tool label="Show the whole graph" icon="fit" run={() => setFitted((count) => count + 1)} />
      </div>
      {!architecture.exact && (
        <p className={classes.notice}>
          Modules are shown in the order of their calls, without edges. {architecture.reason}
        </p>
      )}
      <ReactFlowProvider>
        <Graph {...{ tree, unfolded, setUnfolded, direction, scale, measuring, selected, select, fitted, centered }} />
      </ReactFlowProvider>
    </section>
  );
});

function Tool({ label, icon, run }: { label: string; icon: 'toRight' | 'toBottom' | 'fold' | 'unfold' | 'fit'; run: () => void }) {
  return (
    <Tooltip label={label}>
      <ActionIcon aria-label={label} onClick={run}>
        <Icon name={icon} />
      </ActionIcon>
    </Tooltip>
  );
}
