import type { Job, JobRequest } from '../api/types';

const CHUNK = 8;
/** So many jobs wait or run at once: enough to keep the server busy, few enough to follow the eye. */
const AHEAD = 2;

export interface Server {
  /** Cancels where nobody waits for the answer: the page goes away. */
  abandon: (job: Job) => void;
  start: (request: JobRequest) => Promise<Job>;
  cancel: (job: Job) => Promise<unknown>;
}

/**
 * Asks for the pictures of the tiles that are in view, a few at a time.
 *
 * What scrolls away before it was asked for is forgotten; a job that waits and of which nothing is in view any more is
 * cancelled.
 */
export class TileQueue {
  private readonly wanted = new Set<string>();
  private readonly known = new Set<string>();
  private readonly jobs = new Map<string, Job>();
  private starting = 0;
  private stopped = false;
  private readonly request: Pick<JobRequest, 'method' | 'network' | 'options'>;
  private readonly server: Server;
  private readonly failed: (error: unknown) => void;

  constructor(request: Pick<JobRequest, 'method' | 'network' | 'options'>, server: Server, failed: (error: unknown) => void) {
    this.request = request;
    this.server = server;
    this.failed = failed;
  }

  want(address: string): void {
    this.wanted.add(address);
    this.next();
  }

  leave(address: string): void {
    this.wanted.delete(address);
    for (const job of this.jobs.values()) {
      if (job.state !== 'waiting' || job.addresses.some((each) => this.wanted.has(each))) continue;
      this.drop(job);
      void this.server.cancel(job).catch(this.failed);
    }
  }

  /** Takes the news of a job; those of others are passed over. */
  hear(job: Job): void {
    if (!this.jobs.has(job.id)) return;
    if (job.state === 'waiting' || job.state === 'running') {
      this.jobs.set(job.id, job);
      return;
    }
    this.jobs.delete(job.id);
    if (job.state === 'cancelled') for (const each of job.addresses) if (!(each in job.results)) this.known.delete(each);
    this.next();
  }

  /** Nothing more is asked for, and what nobody looks at any more is cancelled. */
  stop(): void {
    this.stopped = true;
    for (const job of this.jobs.values()) void this.server.cancel(job).catch(this.failed);
  }

  /** The page goes away: nothing that waits is looked at any more. What is asked for again comes back with the page. */
  abandon(): void {
    for (const job of this.jobs.values()) {
      if (job.state !== 'waiting') continue;
      this.drop(job);
      this.server.abandon(job);
    }
  }

  /** The page is back: what is in view is asked for again. */
  resume(): void {
    this.next();
  }

  private drop(job: Job): void {
    this.jobs.delete(job.id);
    for (const each of job.addresses) this.known.delete(each);
  }

  private next(): void {
    // All tiles that come into view in one turn go into one chunk.
    queueMicrotask(() => void this.send());
  }

  private async send(): Promise<void> {
    if (this.stopped || this.jobs.size + this.starting >= AHEAD) return;
    const addresses = [...this.wanted].filter((each) => !this.known.has(each)).slice(0, CHUNK);
    if (addresses.length === 0) return;
    for (const each of addresses) this.known.add(each);
    this.starting += 1;
    try {
      const job = await this.server.start({ ...this.request, addresses, background: true });
      if (job.state === 'waiting' || job.state === 'running') this.jobs.set(job.id, job);
      if (this.stopped && (job.state === 'waiting' || job.state === 'running')) await this.server.cancel(job);
    } catch (error) {
      this.stopped = true;
      this.failed(error);
    } finally {
      this.starting -= 1;
    }
    this.next();
  }
}
