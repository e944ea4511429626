import { reading } from './reading';
import { server } from './server';

/** Everything the page reads or asks for. */
export type Client = typeof server;

/** Whether the page lies in a folder with its answers as files, and there is no server; `inward atlas` writes so. */
export const isReading = typeof document !== 'undefined' && document.documentElement.dataset.reading === 'true';

export const client: Client = isReading ? reading : server;
