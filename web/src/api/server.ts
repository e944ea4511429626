import { ask as read, BASE } from './ask';
import type {
  Ablation, Activations, Architecture, Facts, Job, JobRequest, Known, Method, Picture, Result, ResultFile, Sensitivity, Session, Steps, Top, Unit,
} from './types';

const ask = <T>(path: string, init?: RequestInit) => read<T>(path, 'The server does not answer; start `inward serve` again.', init);

function query(values: Record<string, string | number | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

/** Of each network what tells its weights from those of another run, whose pictures the browser may have kept. */
let weights: Record<number, string> = {};

async function session(): Promise<Session> {
  // A server that hangs is as good as none.
  const told = await ask<Session>('session', { signal: AbortSignal.timeout(20_000) });
  weights = Object.fromEntries(told.networks.map((net) => [net.id, net.weights]));
  return told;
}

const JSON_BODY = { 'Content-Type': 'application/json' };

/** What `inward serve` answers. */
export const server = {
  session,
  architecture: (net: number) => ask<Architecture>(`networks/${net}/architecture`),
  labels: (net: number) => ask<{ labels: string[] | null }>(`networks/${net}/labels`),
  facts: (net: number, point: string) => ask<Facts>(`networks/${net}/facts?${query({ point })}`),
  methods: () => ask<Method[]>('methods'),
  images: () => ask<Picture[]>('images'),
  answers: (net: number, image: string) => ask<{ top: Top[] }>(`networks/${net}/answers?${query({ image })}`),
  activations: (net: number, image: string, point: string) =>
    ask<Activations>(`networks/${net}/activations?${query({ image, point })}`),
  known: (net: number, point: string) => ask<Known>(`networks/${net}/known?${query({ point })}`),
  times: (net: number) => ask<Record<string, number>>(`networks/${net}/times`),
  sensitivity: (net: number, result: string, point: string) =>
    ask<Sensitivity>(`networks/${net}/sensitivity?${query({ result, point })}`),
  steps: (file: ResultFile) => ask<Steps>(file.url.slice(BASE.length)),
  ablation: (net: number, image: string, address: string) =>
    ask<Ablation>(`networks/${net}/ablation?${query({ image, address })}`),
  unit: (net: number, address: string) => ask<Unit>(`networks/${net}/unit?${query({ address })}`),
  upload: (file: File) =>
    ask<Picture>(`images?${query({ name: file.name })}`, {
      method: 'POST',
      body: file,
      headers: { 'Content-Type': file.type.startsWith('image/') ? file.type : 'application/octet-stream' },
    }),
  start: (request: JobRequest) => ask<Job>('jobs', { method: 'POST', body: JSON.stringify(request), headers: JSON_BODY }),
  jobs: () => ask<Job[]>('jobs'),
  cancel: (id: string) => ask<Job>(`jobs/${id}`, { method: 'DELETE' }),
  /** Cancels while the page goes away, when nobody waits for the answer any more. */
  abandon: (id: string) => void fetch(`${BASE}jobs/${id}`, { method: 'DELETE', credentials: 'same-origin', keepalive: true }).catch(() => undefined),
  result: (id: string) => ask<Result>(`results/${id}`),
  filtersUrl: (net: number, point: string) => `${BASE}networks/${net}/filters.png?${query({ point, v: weights[net] })}`,
  mapsUrl: (net: number, image: string, point: string) => `${BASE}networks/${net}/maps.jpg?${query({ image, point, v: weights[net] })}`,
  mapUrl: (net: number, image: string, address: string) => `${BASE}networks/${net}/map.png?${query({ image, address, v: weights[net] })}`,
  pictureUrl: (image: string, network?: number) => `${BASE}images/${image}/picture.png?${query({ network, v: network === undefined ? undefined : weights[network] })}`,
  /** Calls `heard` for each change of a job until the returned function is called; `lost` where the stream breaks. */
  listen: (heard: (job: Job) => void, opened: () => void, lost: () => void): (() => void) => {
    const source = new EventSource(`${BASE}events`);
    source.addEventListener('job', (event) => heard(JSON.parse((event as MessageEvent<string>).data) as Job));
    source.addEventListener('open', opened);
    source.addEventListener('error', lost);
    return () => source.close();
  },
};
