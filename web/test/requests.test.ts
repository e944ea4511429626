import { describe, expect, it, vi } from 'vitest';
import type { Job, JobRequest, Method, Schema } from '../src/api/types';
import { keyOf, merged } from '../src/jobs/store';
import { TileQueue } from '../src/layer/tileQueue';
import { classesOf, epsScaleOf, faultOf, fieldsOf, isUnknown, optionsOf, pointsOf } from '../src/methods/fields';
import { attackOf } from '../src/layer/useAttack';
import { lineOf } from '../src/results/steps';
import { captionOf } from '../src/results/caption';
import { node } from './networks';

const schema: Schema = {
  type: 'object',
  properties: {
    steps: { type: 'integer', default: 40, minimum: 1, maximum: 1_000_000, description: 'steps at most.' },
    eps: { anyOf: [{ type: 'number' }, { type: 'null' }], default: null },
    norm: { type: 'string', enum: ['linf', 'l2'], default: 'linf', description: 'linf or l2.' },
    stop: { type: 'boolean', default: true },
    shares: { type: 'array', items: { type: 'number' }, default: [] },
    style: { anyOf: [{ type: 'array', items: { type: 'string' } }, { type: 'string' }, { type: 'null' }], 'x-pictures': true },
    target: { anyOf: [{ type: 'string', maxLength: 5 }, { type: 'null' }], default: null, 'x-address': true },
  },
  required: ['style'],
};
const fields = fieldsOf(schema);
const field = (name: string) => fields.find((each) => each.name === name)!;

describe('forms', () => {
  it('ask for each option by its type', () => {
    expect(fields.map(({ kind }) => kind)).toEqual(['integer', 'number', 'choice', 'boolean', 'numbers', 'pictures', 'text']);
    expect(field('steps')).toMatchObject({ low: 1, high: undefined, usual: 40, help: 'Steps at most.' });
    expect(field('norm').help).toBe('linf or l2.');
    expect(field('target').address).toBe(true);
  });
  it('say what is wrong', () => {
    expect(faultOf(field('style'), undefined)).toBe('This has to be given.');
    expect(faultOf(field('steps'), 1.5)).toBe('Write a whole number.');
    expect(faultOf(field('steps'), 0)).toBe('At least 1.');
    expect(faultOf(field('steps'), '4x')).toBe('Write a number.');
    expect(faultOf(field('target'), 'class:281')).toBe('At most 5 letters.');
    expect(faultOf(field('steps'), undefined)).toBeNull();
  });
  it('send only what differs from the usual', () => {
    expect(optionsOf(fields, { steps: 40, stop: false, shares: ['0.5', '1'], style: [], target: '' })).toEqual({ stop: false, shares: [0.5, 1] });
  });
  it('tell the size of a change in each norm on a scale of its own', () => {
    expect(epsScaleOf(field('eps'), fields, {})).toEqual({ norm: 'linf', most: 32 / 255, step: 1 / 255, usual: 8 / 255 });
    expect(epsScaleOf(field('eps'), fields, { norm: 'l2' })).toMatchObject({ norm: 'l2', most: 5, usual: 0.5 });
    // What the method itself says is usual, is.
    expect(epsScaleOf({ ...field('eps'), usual: 4 / 255 }, fields, {})?.usual).toBe(4 / 255);
    expect(epsScaleOf(field('steps'), fields, {})).toBeNull();
  });
});

function job(more: Partial<Job>): Job {
  return { id: 'a', method: 'm', network: 0, image: null, addresses: [], options: {}, video: false, background: true, state: 'waiting', done: 0, total: null, error: null, results: {}, created: 1, ...more };
}

describe('jobs', () => {
  it('are the newest first, and do not begin again', () => {
    const held = merged(merged([], job({ id: 'a', created: 1 })), job({ id: 'b', created: 2 }));
    expect(held.map(({ id }) => id)).toEqual(['b', 'a']);
    const done = merged(held, job({ id: 'a', state: 'done' }));
    expect(merged(done, job({ id: 'a', state: 'running' }))).toBe(done);
  });
  it('are told apart by what they compute', () => {
    const request: JobRequest = { method: 'm', network: 0, options: { b: 1, a: 2 } };
    expect(keyOf(request)).toBe(keyOf(job({ options: { a: 2, b: 1 } })));
    expect(keyOf(request)).not.toBe(keyOf({ ...request, video: true }));
  });
});

describe('tiles', () => {
  const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
  const made = () => {
    let count = 0;
    const start = vi.fn(async (request: JobRequest) => job({ id: `j${(count += 1)}`, addresses: request.addresses ?? [] }));
    const cancel = vi.fn(async () => undefined);
    const abandon = vi.fn();
    const queue = new TileQueue({ method: 'm', network: 0, options: {} }, { start, cancel, abandon }, () => undefined);
    return { start, cancel, abandon, queue };
  };
  it('are asked for in chunks of 8, two at a time', async () => {
    const { start, queue } = made();
    for (let unit = 0; unit < 30; unit += 1) queue.want(`p/${unit}`);
    await settle();
    expect(start.mock.calls.map(([request]) => request.addresses?.length)).toEqual([8, 8]);
    queue.hear(job({ id: 'j1', state: 'done' }));
    await settle();
    expect(start).toHaveBeenCalledTimes(3);
  });
  it('that scrolled away are cancelled while they wait, and asked for again when they come back', async () => {
    const { start, cancel, queue } = made();
    queue.want('p/0');
    await settle();
    queue.leave('p/0');
    expect(cancel).toHaveBeenCalledOnce();
    queue.want('p/0');
    await settle();
    expect(start).toHaveBeenCalledTimes(2);
  });
  it('that run are left alone', async () => {
    const { cancel, queue } = made();
    queue.want('p/0');
    await settle();
    queue.hear(job({ id: 'j1', state: 'running', addresses: ['p/0'] }));
    queue.leave('p/0');
    expect(cancel).not.toHaveBeenCalled();
  });
  it('that wait are abandoned where the page goes away, and asked for again where it comes back', async () => {
    const { start, abandon, queue } = made();
    for (let unit = 0; unit < 16; unit += 1) queue.want(`p/${unit}`);
    await settle();
    queue.hear(job({ id: 'j1', state: 'running', addresses: ['p/0'] }));
    queue.abandon();
    expect(abandon.mock.calls.map(([each]) => each.id)).toEqual(['j2']);
    queue.want('p/8');
    await settle();
    expect(start.mock.calls.at(-1)?.[0].addresses).toEqual(['p/8', 'p/9', 'p/10', 'p/11', 'p/12', 'p/13', 'p/14', 'p/15']);
  });
  it('are asked for no more once stopped', async () => {
    const { start, queue } = made();
    queue.stop();
    queue.want('p/0');
    await settle();
    expect(start).not.toHaveBeenCalled();
  });
});

describe('two networks', () => {
  it('complete with the classes and points of both', () => {
    expect([...classesOf([['cat', 'dog'], null, ['cat', 'hound', 'bird']])]).toEqual([['class:0', 'cat'], ['class:1', 'dog / hound'], ['class:2', 'bird']]);
    const of = (nodes: ReturnType<typeof node>[]) => ({ name: '', size: [8, 8] as [number, number], exact: true, reason: null, nodes, edges: [] });
    expect([...pointsOf([of([node('a'), node('x', { point: false })]), of([node('b', { module: 'ReLU' })])])]).toEqual([['a', 'Conv2d'], ['b', 'ReLU']]);
  });
});

describe('sensitivity', () => {
  const methods = [{ name: 'pgd', returns: 'perturbation' }, { name: 'saliency', returns: 'attribution' }] as Method[];
  it('is known of the newest attack on the picture that is done', () => {
    const done = job({ method: 'pgd', image: 'cat', state: 'done', results: { '': 'pgd-1' } });
    const jobs = [
      job({ ...done, id: 'map', method: 'saliency' }), job({ ...done, id: 'other', network: 1 }), job({ ...done, id: 'dog', image: 'dog' }),
      job({ ...done, id: 'now', state: 'running' }), job({ ...done, id: 'new' }), job({ ...done, id: 'old' }),
    ];
    expect(attackOf(jobs, methods, 0, 'cat')?.id).toBe('new');
    expect(attackOf(jobs, methods, 0, undefined)).toBeUndefined();
    expect(attackOf(jobs, [], 0, 'cat')).toBeUndefined();
  });
});

describe('the steps of an attack', () => {
  it('are a line over its passes, which need not be even', () => {
    expect(lineOf([0, 1, 4], [1, 0.5, 0])).toBe('M0.0 0.0L75.0 50.0L300.0 100.0');
    expect(lineOf([0], [0.25])).toBe('M0.0 75.0');
  });
});

describe('the caption of a channel', () => {
  it('tells its score', () => {
    const caption = 'address a/1, final 4.843, passes 256';
    expect(captionOf({ caption, manifest: { scores: { final: 4.8432, passes: 256 } } })).toBe('Score 4.843 after 256 passes');
    expect(captionOf({ caption, manifest: { scores: { final: 123456, passes: 2 } } })).toBe('Score 1.2e+5 after 2 passes');
  });
  it('stays as it is where there is no score', () => {
    expect(captionOf({ caption: 'final 1, 2', manifest: { scores: { final: [1, 2], passes: 256 } } })).toBe('final 1, 2');
    expect(captionOf({ caption: '', manifest: {} })).toBe('');
  });
});

describe('a class that is typed', () => {
  const names = new Map([['class:0', 'tench'], ['class:1', 'English springer']]);
  it.each([['unicorn', true], ['spring', false], ['tench', false], ['class:7', false], ['stage1/3', false], ['', false]])('%s', (typed, unknown) => {
    expect(isUnknown(typed, names)).toBe(unknown);
    expect(isUnknown(typed, new Map())).toBe(false);
  });
});
