import type { CSSProperties } from 'react';
import { background } from '../reading/place';

/** Maps in a row of the server's sheet. */
const COLUMNS = 16;

/** Where one of all channels is active in the picture, from the sheet of their maps. */
export function mapOf(url: string, unit: number, units: number, [height, width]: readonly [number, number]): CSSProperties {
  const columns = Math.min(COLUMNS, units);
  const place = { first: 0, row: Math.floor(unit / columns), column: unit % columns, rows: Math.ceil(units / columns), columns };
  return { ...background(url, place), aspectRatio: `${width} / ${height}` };
}
