import { expect, test } from 'vitest';
import { beside, ordered } from '../src/layer/order';

test('channels are in the order of their numbers, or of their values', () => {
  expect(ordered(4, undefined)).toEqual([0, 1, 2, 3]);
  expect(ordered(4, [0.5, 3, -1, 3])).toEqual([1, 3, 0, 2]);
});

test('the way from one channel to the next is that order, and begins again at its end', () => {
  const order = ordered(4, [0.5, 3, -1, 3]);
  expect(beside(order, 1, 1)).toBe(3);
  expect(beside(order, 2, 1)).toBe(1);
  expect(beside(order, 1, -1)).toBe(2);
});
