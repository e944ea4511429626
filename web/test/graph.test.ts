import { describe, expect, it } from 'vitest';
import { diagramsOf, INLET, lineKey, OUTLET, waysOf } from '../src/graph/diagram';
import { everything, fold, initialFold, reveal, shownOf, unfold } from '../src/graph/fold';
import { lift, standsFor } from '../src/graph/lift';
import { ancestorsOf, childrenOf, treeOf } from '../src/graph/tree';
import { node, residual } from './networks';

const tree = residual();

describe('tree', () => {
  it('orders children by computation, not as they were listed', () => {
    expect(childrenOf(tree, '')).toEqual(['input', 'conv', 'stage', 'fc']);
    expect(childrenOf(tree, 'stage.0')).toEqual(['stage.0.conv1', 'stage.0.conv2', 'stage.0.add']);
  });
  it('tells what encloses a node, outermost first', () => {
    expect(ancestorsOf(tree, 'stage.1.conv2')).toEqual(['stage', 'stage.1']);
    expect(ancestorsOf(tree, 'fc')).toEqual([]);
  });
  it('keeps nodes whose parent is not listed, and nodes of a cycle', () => {
    const odd = treeOf([node('a.b'), node('c'), node('d')], [['c', 'd'], ['d', 'c']]);
    expect([...childrenOf(odd, '')].sort()).toEqual(['a.b', 'c', 'd']);
  });
  it('keeps the given order where there are no edges', () => {
    expect(childrenOf(treeOf([node('b'), node('a')], []), '')).toEqual(['b', 'a']);
  });
});

describe('folding', () => {
  it('opens as much as fits', () => {
    expect([...initialFold(tree, 24)].sort()).toEqual(['stage', 'stage.0', 'stage.1']);
    expect([...initialFold(tree, 6)]).toEqual(['stage']);
    expect([...initialFold(tree, 4)]).toEqual([]);
  });
  it('opens all of a level or none, but one that does most of the work', () => {
    const like = treeOf(['a', 'b'].flatMap((id) => [node(id, { container: true }), node(`${id}.0`), node(`${id}.1`)]), []);
    expect([...initialFold(like, 4)]).toEqual([]);
    const main = treeOf([node('a', { container: true, multiply_adds: 900 }), node('a.0'), node('b', { container: true }), node('b.0'), node('b.1'), node('b.2')], []);
    expect([...initialFold(main, 4)]).toEqual(['a']);
  });
  it('forgets what was open inside a container that is folded', () => {
    const all = everything(tree);
    expect([...fold(tree, all, 'stage')]).toEqual([]);
    expect([...fold(tree, all, 'stage.0')].sort()).toEqual(['stage', 'stage.1']);
  });
  it('lists containers before what is inside', () => {
    const shown = shownOf(tree, unfold(new Set(), 'stage'));
    expect(shown.map(({ id, group }) => `${id}${group ? '*' : ''}`)).toEqual(['input', 'conv', 'stage*', 'stage.0', 'stage.1', 'fc']);
  });
  it('opens what encloses a node, and changes nothing where it is open', () => {
    const open = reveal(tree, new Set(), 'stage.1.add');
    expect([...open]).toEqual(['stage', 'stage.1']);
    expect(reveal(tree, open, 'stage.1.add')).toBe(open);
  });
});

describe('lifting edges', () => {
  it('takes the outermost folded container', () => {
    expect(standsFor(tree, new Set(['stage.0']), 'stage.0.add')).toBe('stage');
    expect(standsFor(tree, new Set(['stage']), 'stage.0.add')).toBe('stage.0');
  });
  it('draws each edge once, and none to itself', () => {
    expect(lift(tree, new Set())).toEqual([['input', 'conv'], ['conv', 'stage'], ['stage', 'fc']]);
    expect(lift(tree, new Set(['stage']))).toContainEqual(['stage.0', 'stage.1']);
    expect(lift(tree, everything(tree))).toHaveLength(tree.edges.length);
  });
});

describe('diagrams', () => {
  it('starts the bypass of a block at its inlet', () => {
    const inside = diagramsOf(tree, everything(tree)).get('stage.1')!;
    expect(inside.edges).toContainEqual([INLET, 'stage.1.conv1']);
    expect(inside.edges).toContainEqual([INLET, 'stage.1.add']);
    expect(inside.edges).toContainEqual(['stage.1.add', OUTLET]);
    expect([inside.inlet, inside.outlet]).toEqual([true, true]);
  });
  it('draws between siblings what runs between their insides', () => {
    const diagrams = diagramsOf(tree, everything(tree));
    expect(diagrams.get('stage')!.edges).toEqual([[INLET, 'stage.0'], ['stage.0', 'stage.1'], ['stage.1', OUTLET]]);
    expect(diagrams.get('')!.edges).toEqual([['input', 'conv'], ['conv', 'stage'], ['stage', 'fc']]);
  });
  it('goes on through the borders of groups on the ways of a node', () => {
    const ways = (...lines: [string, string][]) => new Set(lines.map(([from, to]) => lineKey(from, to)));
    expect(waysOf(tree, 'fc')).toEqual(ways(
      ['stage', 'fc'], ['stage.1', OUTLET], [OUTLET, 'stage'], ['stage.1.add', OUTLET], [OUTLET, 'stage.1'],
    ));
    // Of a group what leads to it and from it, not what runs within.
    expect(waysOf(tree, 'stage.0')).toEqual(ways(
      ['conv', 'stage'], ['stage', INLET], [INLET, 'stage.0'], ['stage.0', 'stage.1'],
      ['stage.1', INLET], [INLET, 'stage.1.conv1'], [INLET, 'stage.1.add'],
    ));
    expect(waysOf(tree, 'stage.1.conv2')).toEqual(ways(['stage.1.conv1', 'stage.1.conv2'], ['stage.1.conv2', 'stage.1.add']));
  });
  it('has none for what is folded', () => {
    expect([...diagramsOf(tree, new Set(['stage'])).keys()]).toEqual(['', 'stage']);
  });
});
