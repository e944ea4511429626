import type { Picture } from '../api/types';

/** One's own pictures, the last one first, before all others. */
export function ownFirst(images: readonly Picture[]): Picture[] {
  return [...images.filter((each) => each.source === 'upload').toReversed(), ...images.filter((each) => each.source !== 'upload')];
}
