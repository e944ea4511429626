import type { Result } from '../api/types';
import { four } from '../graph/numbers';

/** What a picture of a channel says below it; where nothing better is known, what the server says. */
export function captionOf({ manifest, caption }: Pick<Result, 'manifest' | 'caption'>): string {
  const { final, passes } = (manifest.scores ?? {}) as { final?: unknown; passes?: unknown };
  return typeof final === 'number' && typeof passes === 'number' ? `Score ${four(final)} after ${passes} passes` : caption;
}
