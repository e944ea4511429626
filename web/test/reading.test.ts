import { afterEach, describe, expect, it, vi } from 'vitest';
import { client } from '../src/api/client';
import { reading, sheetsOf, sheetUrl, slug } from '../src/api/reading';
import { server } from '../src/api/server';
import { background, patchOf, placeOf } from '../src/reading/place';

afterEach(() => vi.unstubAllGlobals());

function files(): string[] {
  const asked: string[] = [];
  vi.stubGlobal('fetch', (path: string) => {
    asked.push(path);
    return Promise.resolve(new Response('{}'));
  });
  return asked;
}

describe('the name of a file', () => {
  it.each([
    ['stage2.0', 'stage2.0'],
    ['Mixed_5b', '~4d~ixed_5b'],
    ['relu:2', 'relu~3a~2'],
    ['a/b~', 'a~2f~b~7e~'],
    ['ü😀', '~fc~~1f600~'],
  ])('of %s', (name, expected) => expect(slug(name)).toBe(expected));
});

describe('reading', () => {
  it('maps each question to a file', async () => {
    const asked = files();
    await reading.session();
    await reading.architecture(0);
    await reading.labels(0);
    await reading.facts(0, 'Mixed');
    await reading.times(0);
    await Promise.all([reading.methods(), reading.images(), reading.jobs()]);
    await sheetsOf(0, 'relu:2');
    expect(asked).toEqual([
      'api/session.json', 'api/networks/0/architecture.json', 'api/networks/0/labels.json', 'api/networks/0/facts/~4d~ixed.json',
      'api/networks/0/times.json',
      'api/methods.json', 'api/images.json', 'api/jobs.json', 'api/networks/0/units/relu~3a~2.json',
    ]);
    expect(reading.filtersUrl(0, 'Conv')).toBe('api/networks/0/filters/~43~onv.png');
    expect(sheetUrl(0, 'stage2.0', 32)).toBe('api/networks/0/sheets/stage2.0-32.webp');
    expect(sheetUrl(0, 'stage2.0', 0, true)).toBe('api/networks/0/sheets/stage2.0-0-patches.webp');
  });
  it('asks for nothing that had to be computed', async () => {
    const asked = files();
    await expect(reading.start({ method: 'saliency', network: 0, options: {} })).rejects.toThrow('computed');
    await expect(reading.unit(0, 'a/1')).rejects.toThrow('computed');
    reading.listen(() => undefined, () => undefined, () => undefined)();
    expect(asked).toEqual([]);
  });
  it('is only for pages that say so', async () => {
    expect(client).toBe(server);
    vi.stubGlobal('document', { documentElement: { dataset: { reading: 'true' } } });
    vi.resetModules();
    const again = await import('../src/api/client');
    expect(again.isReading).toBe(true);
    expect(again.client.listen(() => undefined, () => undefined, () => undefined)).toBeTypeOf('function');
  });
});

describe('a tile of a sheet', () => {
  const sheets = { columns: 8, per_sheet: 32, patches: 6, scores: Array.from({ length: 70 }, () => 1) };
  it('is where its unit is', () => {
    expect(placeOf(sheets, 0)).toEqual({ first: 0, row: 0, column: 0, rows: 4, columns: 8 });
    expect(placeOf(sheets, 45)).toEqual({ first: 32, row: 1, column: 5, rows: 4, columns: 8 });
  });
  it('is where its unit is on a last sheet that is not full', () => {
    expect(placeOf(sheets, 69)).toEqual({ first: 64, row: 0, column: 5, rows: 1, columns: 6 });
    expect(placeOf({ ...sheets, scores: [1] }, 0)).toEqual({ first: 0, row: 0, column: 0, rows: 1, columns: 1 });
  });
  it('has its patches in its row', () => {
    expect(patchOf(sheets, 69, 2)).toEqual({ first: 64, row: 5, column: 2, rows: 6, columns: 6 });
  });
  it('is shown alone', () => {
    expect(background('a.webp', { first: 0, row: 1, column: 7, rows: 4, columns: 8 })).toEqual({
      backgroundImage: 'url("a.webp")', backgroundSize: '800% 400%', backgroundPosition: `100% ${100 / 3}%`,
    });
    expect(background('a.webp', { first: 0, row: 0, column: 0, rows: 1, columns: 1 }).backgroundPosition).toBe('0% 0%');
  });
});
