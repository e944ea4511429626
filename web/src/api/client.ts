import type {
  Ablation, Activations, Architecture, Facts, Job, JobRequest, Method, Picture, Result, Session, Top, Unit,
} from './types';

/** An answer that says in one sentence what is wrong. */
export class ApiError extends Error {
  readonly status: number;
  readonly option: string | undefined;

  constructor(status: number, sentence: string, option?: string) {
    super(sentence);
    this.status = status;
    this.option = option;
  }
}

/** The status of a request that no server answered. */
export const UNREACHABLE = 0;

const BASE = 'api/';

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, { credentials: 'same-origin', ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(UNREACHABLE, 'The server does not answer; start `inward serve` again.');
  }
  if (!response.ok) {
    const told = (await response.json().catch(() => ({}))) as { error?: string; option?: string };
    throw new ApiError(response.status, told.error ?? `The server answered with status ${response.status}.`, told.option);
  }
  return (await response.json()) as T;
}

function query(values: Record<string, string | number | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

const JSON_BODY = { 'Content-Type': 'application/json' };

/** Everything the page reads or asks for. A folder of files can stand in for the server by replacing this object. */
export const client = {
  session: () => ask<Session>('session'),
  architecture: (net: number) => ask<Architecture>(`networks/${net}/architecture`),
  labels: (net: number) => ask<{ labels: string[] | null }>(`networks/${net}/labels`),
  facts: (net: number, point: string) => ask<Facts>(`networks/${net}/facts?${query({ point })}`),
  methods: () => ask<Method[]>('methods'),
  images: () => ask<Picture[]>('images'),
  answers: (net: number, image: string) => ask<{ top: Top[] }>(`networks/${net}/answers?${query({ image })}`),
  activations: (net: number, image: string, point: string) =>
    ask<Activations>(`networks/${net}/activations?${query({ image, point })}`),
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
  result: (id: string) => ask<Result>(`results/${id}`),
  filtersUrl: (net: number, point: string) => `${BASE}networks/${net}/filters.png?${query({ point })}`,
  pictureUrl: (image: string, network?: number) => `${BASE}images/${image}/picture.png?${query({ network })}`,
  /** Calls `heard` for each change of a job until the returned function is called; `lost` where the stream breaks. */
  listen: (heard: (job: Job) => void, opened: () => void, lost: () => void): (() => void) => {
    const source = new EventSource(`${BASE}events`);
    source.addEventListener('job', (event) => heard(JSON.parse((event as MessageEvent<string>).data) as Job));
    source.addEventListener('open', opened);
    source.addEventListener('error', lost);
    return () => source.close();
  },
};
