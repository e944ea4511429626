import { ApiError, ask, BASE } from './ask';
import type { Client } from './client';
import type { Architecture, Facts, Job, Method, Picture, Session, Sheets } from './types';

/** The name of a point as part of a file's name, as `inward atlas` writes it. */
export function slug(name: string): string {
  return name.replace(/[^a-z0-9._-]/gu, (letter) => `~${letter.codePointAt(0)!.toString(16)}~`);
}

const read = <T>(path: string) => ask<T>(`${path}.json`, 'A file of this atlas could not be read; try again.');

const of = (net: number, kind: string, point: string) => `networks/${net}/${kind}/${slug(point)}`;

const refuse = () => Promise.reject(new ApiError(404, 'This atlas shows what was computed before; start inward serve to compute more.'));

/** The same answers, read from files; what would have to be computed is refused. */
export const reading: Client = {
  session: () => read<Session>('session'),
  architecture: (net) => read<Architecture>(`networks/${net}/architecture`),
  labels: (net) => read<{ labels: string[] | null }>(`networks/${net}/labels`),
  times: (net) => read<Record<string, number>>(`networks/${net}/times`),
  facts: (net, point) => read<Facts>(of(net, 'facts', point)),
  methods: () => read<Method[]>('methods'),
  images: () => read<Picture[]>('images'),
  jobs: () => read<Job[]>('jobs'),
  answers: refuse,
  activations: refuse,
  known: refuse,
  sensitivity: refuse,
  steps: refuse,
  ablation: refuse,
  unit: refuse,
  upload: refuse,
  start: refuse,
  cancel: refuse,
  abandon: () => undefined,
  result: refuse,
  filtersUrl: (net, point) => `${BASE}${of(net, 'filters', point)}.png`,
  mapsUrl: () => '',
  mapUrl: () => '',
  pictureUrl: () => '',
  listen: () => () => undefined,
};

/** What an atlas tells of the channels of a point. */
export const sheetsOf = (net: number, point: string) => read<Sheets>(of(net, 'units', point));

/** The file of a sheet of channels, or of the patches of these. */
export function sheetUrl(net: number, point: string, first: number, patches = false): string {
  return `${BASE}${of(net, 'sheets', point)}-${first}${patches ? '-patches' : ''}.webp`;
}
