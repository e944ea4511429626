import { useLocalStorage } from '@mantine/hooks';
import { MEASURES, type Measure } from '../graph/scale';

export const OFFERED = Object.keys(MEASURES) as Measure[];

/** What nodes are colored by; the same in all parts of the page, and kept for the next time. */
export function useMeasure(): [Measure, (measure: Measure) => void] {
  const [kept, keep] = useLocalStorage<Measure>({ key: 'inward-color', defaultValue: 'kind', getInitialValueInEffect: false });
  return [OFFERED.includes(kept) ? kept : 'kind', keep];
}
