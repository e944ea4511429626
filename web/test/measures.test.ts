import { describe, expect, it } from 'vitest';
import { measuresOf, withName } from '../src/results/measures';
import { ownFirst } from '../src/picture/ownFirst';
import { aliased } from '../src/route/route';

describe('measures', () => {
  it('are told in words, a class by its name', () => {
    const found = measuresOf({ target: 'class:3', score: 3.93487, score_kind: 'logit', error: 0.0182, signed_error: -0.008, points: 35, weights: [1] }, ['a', 'b', 'c', 'saw']);
    expect(found).toEqual([
      { name: 'Target', value: 'saw (class:3)' },
      { name: 'Logit', value: '3.935' },
      { name: 'Error', value: '1.8 %' },
      { name: 'Signed error', value: '−0.8 %' },
      { name: 'Points', value: '35' },
    ]);
  });
  it('tell a change in steps of a pixel, and a success as an answer', () => {
    const found = measuresOf({ success: true, linf: 4 / 255, l2: 1.2345, l0: 16384, final: -12 }, null);
    expect(found.map(({ value }) => value)).toEqual(['yes', '4/255', '1.234', '16,384', '-12']);
    expect(measuresOf({ linf: 0.01 }, null)[0]!.value).toBe('2.55/255');
    expect(found[4]!.name).toBe('Margin of logits');
    expect(measuresOf({ l1: 1403.6, final: 2 }, null)).toEqual([{ name: 'Sum of the change (L1)', value: '1,404' }, { name: 'Objective', value: '2' }]);
  });
  it('cut long lists', () => {
    expect(measuresOf({ variants: [1.5, 2, 3, 4, 5, 6, 7, 8] }, null)).toEqual([{ name: 'Variants', value: '1.500, 2, 3, 4, 5, 6, and 2 more' }]);
  });
  it('leave an address as it is where no name is known', () => {
    expect(withName('class:3', null)).toBe('class:3');
    expect(withName('class:3', ['0', '1', '2', '3'])).toBe('class:3');
    expect(withName('mixed4a/97', ['a'])).toBe('mixed4a/97');
  });
});

describe('addresses as in Python', () => {
  it('lead to what they mean', () => {
    expect(aliased({ point: 'class:281', unit: null }, 'fc', 'input')).toEqual({ point: 'fc', unit: 281 });
    expect(aliased({ point: 'image', unit: null }, 'fc', 'input')).toEqual({ point: 'input', unit: null });
    expect(aliased({ point: 'class:281', unit: null }, null, undefined)).toBeNull();
    expect(aliased({ point: 'stage1', unit: 3 }, 'fc', 'input')).toBeNull();
  });
});

it('own pictures come first, the last one before the others', () => {
  const picture = (id: string, source: 'upload' | 'sample' | 'folder') => ({ id, name: id, source, width: 1, height: 1 });
  const all = [picture('a', 'sample'), picture('b', 'upload'), picture('c', 'folder'), picture('d', 'upload')];
  expect(ownFirst(all).map(({ id }) => id)).toEqual(['d', 'b', 'a', 'c']);
});
