import { useLocalStorage } from '@mantine/hooks';
import { isReading } from '../api/client';
import { MEASURES, type Measure } from '../graph/scale';

/** An atlas has measured nothing. */
export const OFFERED = (Object.keys(MEASURES) as Measure[]).filter((measure) => !isReading || measure !== 'time');

/** What nodes are colored by; the same in all parts of the page, and kept for the next time. */
export function useMeasure(): [Measure, (measure: Measure) => void] {
  const [kept, keep] = useLocalStorage<Measure>({ key: 'inward-color', defaultValue: 'kind', getInitialValueInEffect: false });
  return [OFFERED.includes(kept) ? kept : 'kind', keep];
}
