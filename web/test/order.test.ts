import { expect, test } from 'vitest';
import { ordered } from '../src/layer/order';

test('channels are in the order of their numbers, or of their values', () => {
  expect(ordered(4, undefined)).toEqual([0, 1, 2, 3]);
  expect(ordered(4, [0.5, 3, -1, 3])).toEqual([1, 3, 0, 2]);
});
