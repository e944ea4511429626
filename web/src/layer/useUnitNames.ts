import { useMemo } from 'react';
import { useArchitecture, useLabels } from '../api/queries';

/** The names of the units of a point, where these are the classes: as many, without places, and nothing follows. */
export function useUnitNames(net: number, point: string): readonly string[] | null {
  const { data } = useArchitecture(net);
  const nets = useMemo(() => [net], [net]);
  const labels = useLabels(nets)[0]?.labels ?? null;
  const node = data?.nodes.find((each) => each.id === point);
  const last = node !== undefined && node.grid === null && !data?.edges.some(([from]) => from === point);
  return last && labels?.length === node.units ? labels : null;
}
