import { useSyncExternalStore } from 'react';
import { client } from '../api/client';
import type { Job, JobRequest } from '../api/types';

/** All jobs that this page knows, the newest first; filled by the server's stream of events. */
let jobs: readonly Job[] = [];
let listeners = new Set<() => void>();
let stop: (() => void) | null = null;
let polling: ReturnType<typeof setInterval> | null = null;

const POLL = 2_000;
const ENDED = new Set(['done', 'failed', 'cancelled']);

export function isActive(job: Job): boolean {
  return !ENDED.has(job.state);
}

/** Takes a newer state of a job. What has ended does not begin again, however late a message comes. */
export function merged(held: readonly Job[], job: Job): readonly Job[] {
  const at = held.findIndex((each) => each.id === job.id);
  if (at === -1) return [job, ...held].sort((a, b) => b.created - a.created);
  if (!isActive(held[at]!) && isActive(job)) return held;
  return held.with(at, job);
}

function set(next: readonly Job[]): void {
  if (next === jobs) return;
  jobs = next;
  for (const listener of listeners) listener();
}

export function hear(job: Job): void {
  set(merged(jobs, job));
}

async function readAll(): Promise<void> {
  try {
    let next = jobs;
    for (const job of (await client.jobs()).toReversed()) next = merged(next, job);
    set(next);
  } catch {
    // Without a server there is nothing to read; the page says so elsewhere.
  }
}

/** Listens to the server; where its stream breaks, calls `lost`, and asks from time to time until it is back. */
export function follow(lost: () => void): () => void {
  void readAll();
  stop = client.listen(hear, () => { quiet(); void readAll(); }, () => {
    lost();
    polling ??= setInterval(() => void readAll(), POLL);
  });
  return () => {
    stop?.();
    quiet();
  };
}

function quiet(): void {
  if (polling) clearInterval(polling);
  polling = null;
}

function subscribe(listener: () => void): () => void {
  listeners = new Set(listeners).add(listener);
  return () => {
    listeners = new Set([...listeners].filter((each) => each !== listener));
  };
}

export const allJobs = (): readonly Job[] => jobs;
export const onJobs = subscribe;

export function useJobs(): readonly Job[] {
  return useSyncExternalStore(subscribe, allJobs);
}

export async function start(request: JobRequest): Promise<Job> {
  const job = await client.start(request);
  hear(job);
  return job;
}

export async function cancel(job: Pick<Job, 'id'>): Promise<void> {
  hear(await client.cancel(job.id));
}

/** What tells one request from another. */
export function keyOf(request: JobRequest | Job): string {
  const options = Object.fromEntries(Object.entries(request.options).sort(([a], [b]) => a.localeCompare(b)));
  return JSON.stringify([request.method, request.network, request.image ?? null, request.addresses ?? [], options, request.video ?? false]);
}
