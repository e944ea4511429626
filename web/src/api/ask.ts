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

/** Below the address of the page. */
export const BASE = 'api/';

/** Reads JSON; `away` is the sentence where nobody answers. */
export async function ask<T>(path: string, away: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, { credentials: 'same-origin', ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(UNREACHABLE, away);
  }
  if (!response.ok) {
    const told = (await response.json().catch(() => ({}))) as { error?: string; option?: string };
    throw new ApiError(response.status, told.error ?? `The server answered with status ${response.status}.`, told.option);
  }
  return (await response.json()) as T;
}
