import type { CSSProperties } from 'react';
import type { Sheets } from '../api/types';

/** Where a tile is: the first unit of its sheet, its row and its column, and how many of these the sheet has. */
export interface Place {
  first: number;
  row: number;
  column: number;
  rows: number;
  columns: number;
}

export function placeOf(sheets: Pick<Sheets, 'columns' | 'per_sheet' | 'scores'>, unit: number): Place {
  const at = unit % sheets.per_sheet;
  const first = unit - at;
  const count = Math.min(sheets.per_sheet, sheets.scores.length - first);
  const columns = Math.min(sheets.columns, count);
  return { first, row: Math.floor(at / columns), column: at % columns, rows: Math.ceil(count / columns), columns };
}

/** Patches of photographs: a row for each unit of the sheet. */
export function patchOf(sheets: Pick<Sheets, 'per_sheet' | 'patches' | 'scores'>, unit: number, index: number): Place {
  const row = unit % sheets.per_sheet;
  const first = unit - row;
  return { first, row, column: index, rows: Math.min(sheets.per_sheet, sheets.scores.length - first), columns: sheets.patches };
}

/** Shows one tile of a sheet on an element of any size. */
export function background(url: string, { row, column, rows, columns }: Place): CSSProperties {
  return {
    backgroundImage: `url("${url}")`,
    backgroundSize: `${columns * 100}% ${rows * 100}%`,
    backgroundPosition: `${share(column, columns)} ${share(row, rows)}`,
  };
}

function share(at: number, count: number): string {
  return count > 1 ? `${(100 * at) / (count - 1)}%` : '0%';
}
