import { use, useMemo } from 'react';
import { useActivations, useSensitivity, useSheets } from '../api/queries';
import { isReading } from '../api/client';
import type { Job } from '../api/types';
import { usePicture } from '../picture/usePicture';
import { PicturedPoints } from '../reading/Pictured';
import { useKept } from '../shell/useKept';
import { ordered } from './order';
import { useAttack } from './useAttack';

/** An order of channels, that the grid and the way from one channel to the next share. */
export interface Order {
  /** By what: as offered, or `number`. */
  by: string;
  setBy: (by: string) => void;
  /** Those that can be chosen, and the value of each channel by each. */
  values: Readonly<Record<string, readonly number[] | undefined>>;
  units: readonly number[];
  attack?: Job | undefined;
}

function useSorted(count: number, values: Order['values'], by: string, setBy: Order['setBy'], attack?: Job): Order {
  const chosen = values[by] === undefined ? 'number' : by;
  const own = values[chosen];
  const units = useMemo(() => ordered(count, own), [count, own]);
  return { by: chosen, setBy, values, units, attack };
}

function useLive(net: number, point: string, count: number, all = false): Order {
  const picture = usePicture();
  const [by, setBy] = useKept('order of channels', 'number');
  const { data: activations } = useActivations(net, all || by === 'activation' ? (picture?.id ?? null) : null, point);
  const attack = useAttack(net, picture?.id);
  const { data: sensitivity } = useSensitivity(net, all || by === 'sensitivity' ? attack?.results[''] : undefined, point);
  return useSorted(count, { activation: activations?.maxima, sensitivity: sensitivity?.changes }, by, setBy, attack);
}

function useRead(net: number, point: string, count: number): Order {
  const [by, setBy] = useKept('order of channels', 'number');
  const { data } = useSheets(net, point, use(PicturedPoints).includes(point));
  const maxima = useMemo(() => (data?.units.every((each) => each !== null) ? data.units.map((each) => each!.maximum) : undefined), [data]);
  return useSorted(count, { activation: maxima, score: data?.scores }, by, setBy);
}

/** The order of the channels of a point; with `all` the values of every order are asked for, else of the chosen one. */
export const useOrder: (net: number, point: string, count: number, all?: boolean) => Order = isReading ? useRead : useLive;
