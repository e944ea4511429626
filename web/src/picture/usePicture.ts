import { useMemo } from 'react';
import { useImages } from '../api/queries';
import type { Picture } from '../api/types';
import { usePart } from '../route/useRoute';

/** The current picture: the one of the address, else the first that there is. */
export function usePicture(): Picture | null {
  const image = usePart('image');
  const { data } = useImages();
  return useMemo(() => data?.find((each) => each.id === image) ?? data?.[0] ?? null, [data, image]);
}
