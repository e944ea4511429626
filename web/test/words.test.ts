import { describe, expect, it } from 'vitest';
import { kindOf } from '../src/graph/kinds';
import { ticksOf } from '../src/graph/ticks';
import { found as foundNames, optionIn } from '../src/methods/fields';
import { compact, milliseconds, percent, shapeText, short } from '../src/graph/numbers';
import { cividis, scaleOf } from '../src/graph/scale';
import { search } from '../src/graph/search';
import { format, NO_UNIT, parse, START } from '../src/route/route';
import { node } from './networks';

describe('search', () => {
  const nodes = ['layer1', 'layer1.0.conv1', 'conv1', 'layer3.1.conv2'].map((id) => node(id));
  const found = (query: string) => search(nodes, query).map(({ id }) => id);
  it('ranks what is called so before what only contains it', () => {
    expect(found('conv1')).toEqual(['conv1', 'layer1.0.conv1']);
    expect(found('layer1')[0]).toBe('layer1');
  });
  it('finds scattered letters and classes, and nothing for nothing', () => {
    expect(found('l31c2')).toEqual(['layer3.1.conv2']);
    expect(found('Conv2d')).toHaveLength(4);
    expect(found('  ')).toEqual([]);
    expect(found('zebra')).toEqual([]);
  });
});

describe('routes', () => {
  it.each([
    '#/0/mixed4a/97?image=cat', '#/1/layer1.0.conv1', '#/0/relu:2/3', '#/0?image=a&tab=attack', '#/0',
  ])('survive a reload: %s', (hash) => {
    expect(format(parse(hash))).toBe(hash);
  });
  it('read what people write', () => {
    expect(parse('')).toEqual(START);
    expect(parse('#/0/a%2Fb/5')).toMatchObject({ point: 'a/b', unit: 5 });
    expect(parse('#/x/conv/y')).toMatchObject({ net: 0, point: 'conv', unit: NO_UNIT });
    expect(parse('#/0/100%/1').point).toBe('100%');
  });
});

describe('numbers', () => {
  it('are short', () => {
    expect([0.000_000_4, 0.000_52, 0.0123, 1.5].map(milliseconds)).toEqual(['0.0004 ms', '0.52 ms', '12 ms', '1500 ms']);
    expect([compact(0), compact(999), compact(25_557_032), compact(4_289_445_888)]).toEqual(['0', '999', '25.6 M', '4.3 G']);
    expect(shapeText([1, 64, 7, 7])).toBe('64 × 7 × 7');
    expect([short(0), short(4.8432), short(12345)]).toEqual(['0', '4.84', '1.2e+4']);
    expect([percent(0.341), percent(0.00001), percent(0)]).toEqual(['34.1 %', '< 0.1 %', '0.0 %']);
  });
});

describe('colors', () => {
  it('tell kinds by module', () => {
    const kinds = ['Conv2d', 'BatchNorm2d', 'ReLU', 'add', 'MultiheadAttention', 'Linear', 'view', 'AdaptiveAvgPool2d', 'Dropout'].map((module) => kindOf(node('a', { module })));
    expect(kinds).toEqual(['convolution', 'normalization', 'activation', 'arithmetic', 'attention', 'linear', 'shape', 'pooling', 'shape']);
    expect(kindOf(node('a', { module: 'ConvBlock', container: true }))).toBe('block');
  });
  it('span what is shown, in logarithms', () => {
    const scale = scaleOf('parameters', [node('a', { parameters: 10 }), node('b', { parameters: 1000 }), node('c', { parameters: 0 })]);
    expect([scale.low, scale.high]).toEqual([10, 1000]);
    expect(scale.color(node('a', { parameters: 10 }))).toBe(cividis(0));
    expect(scale.color(node('x', { parameters: 100 }))).toBe(cividis(0.5));
    expect(scale.color(node('c', { parameters: 0 }))).toBe('transparent');
    const timed = scaleOf('time', [node('a'), node('b')], { a: 0.001, z: 9 });
    expect([timed.low, timed.high, timed.color(node('b'))]).toEqual([0.001, 0.001, 'transparent']);
    expect(scaleOf('time', [node('a')]).high).toBe(0);
  });
});

describe('names of classes', () => {
  const names = new Map([['class:0', 'oystercatcher'], ['class:1', 'Egyptian cat'], ['class:2', 'cat'], ['class:3', 'catamaran'], ['class:11', 'dog']]);
  it('begin with the one that is called so', () => {
    expect(foundNames(names, 'Cat', 9)).toEqual(['class:2', 'class:3', 'class:1', 'class:0']);
    expect(foundNames(names, '11', 9)).toEqual(['class:11']);
  });
  it('are not found by the word class', () => {
    expect(foundNames(names, 'as', 9)).toEqual([]);
    expect(foundNames(names, '', 2)).toEqual(['class:0', 'class:1']);
  });
});

describe('ticks', () => {
  it('lie where their values are, on bins that double', () => {
    const edges = [-0.25, 0.25, 0.5, 1, 2, 4, 8, 16];
    expect(ticksOf(edges).map(({ value, at }) => [value, Number(at.toFixed(4))])).toEqual([
      [0, Number((0.5 / 7).toFixed(4))],
      [1, Number((3 / 7).toFixed(4))],
      [10, Number(((6 + 2 / 8) / 7).toFixed(4))],
    ]);
    expect(ticksOf([1])).toEqual([]);
  });
  it('keep apart from one another', () => {
    const edges = Array.from({ length: 60 }, (_, index) => 2 ** (index / 2 - 12));
    const at = ticksOf(edges).map((tick) => tick.at);
    expect(Math.min(...at.slice(1).map((each, index) => each - at[index]!))).toBeGreaterThanOrEqual(0.14);
    expect(at.length).toBeGreaterThan(3);
  });
});

describe('what a method finds wrong', () => {
  const names = ['steps', 'step_size', 'norm', 'at', 'target'];
  it('is of the option that is named first', () => {
    expect(optionIn('steps are 1 or more, not 0', names)).toBe('steps');
    expect(optionIn("there is no norm 'l3' at this point", names)).toBe('norm');
    expect(optionIn('--step-size is above 0', names)).toBe('step_size');
    expect(optionIn('the network failed', names)).toBeUndefined();
  });
});
