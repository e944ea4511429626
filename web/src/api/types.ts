/** What the server sends, field by field as it writes it. */

export interface Net {
  id: number;
  name: string;
  size: [number, number];
  channels: number;
  classes: number | null;
  parameters: number;
  multiply_adds: number;
  device: string;
  /** The point whose units are the classes. */
  logits: string | null;
  /** What tells its weights from others. */
  weights: string;
  /** Of an atlas: the points whose channels it shows. */
  points?: string[];
}

export interface Session {
  version: string;
  networks: Net[];
  folder: boolean;
  reading: boolean;
  limits: { upload_bytes: number; upload_pixels: number; waiting: number };
}

/** What both the architecture and the facts say of a point. */
interface PointFacts {
  id: string;
  module: string;
  shape: number[] | null;
  units: number | null;
  grid: [number, number] | null;
  parameters: number;
  multiply_adds: number;
  activation: number;
  note: string;
}

export interface GraphNode extends PointFacts {
  parent: string;
  label: string;
  kind: 'input' | 'module' | 'operation';
  container: boolean;
  point: boolean;
}

export type Edge = [string, string];

export interface Architecture {
  name: string;
  size: [number, number];
  exact: boolean;
  reason: string | null;
  nodes: GraphNode[];
  edges: Edge[];
}

export interface Facts extends PointFacts {
  layout: string;
  source: string;
  receptive_field: [number, number] | null;
  filters: number | null;
}

export interface Property {
  type?: string;
  title?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Property[];
  items?: Property;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: string;
  'x-address'?: boolean;
  'x-pictures'?: boolean;
  'x-words'?: string[];
}

export interface Schema {
  type: string;
  properties?: Record<string, Property>;
  required?: string[];
}

export interface Method {
  name: string;
  command: string;
  takes: 'images' | 'addresses';
  /** Its addresses are classes alone. */
  of_classes: boolean;
  returns: string;
  question: string;
  paper: string;
  summary: string;
  schema: Schema;
}

export interface Picture {
  id: string;
  name: string;
  source: 'sample' | 'folder' | 'upload';
  width: number;
  height: number;
}

export interface Top {
  class: number;
  label: string;
  probability: number;
}

export interface Activations {
  maxima: number[];
  means: number[];
}

/** The pictures of units that are there already, by address. */
export type Known = Readonly<Record<string, { result: string; picture: string }>>;

/** Of every unit of a point, how much an attack changed it. */
export interface Sensitivity {
  changes: number[];
}

/** What the network answers after each pass of an attack. */
export interface Steps {
  passes: number[];
  classes: { class: number; label: string; probabilities: number[] }[];
}

export interface Ablation {
  before: Top[];
  after: Top[];
}

export interface Example {
  name: string;
  value: number;
  patch: string;
  picture: string;
  box: [number, number, number, number];
}

export interface Unit {
  /** None where there is no folder, open where it was not looked through for this point. */
  study: 'none' | 'open' | 'ready';
  maximum: number | null;
  histogram: { edges: number[]; counts: number[] } | null;
  examples: Example[];
}

/** The channels of a point in an atlas: pictures of them are tiles of sheets. */
export interface Sheets {
  tile: number;
  columns: number;
  per_sheet: number;
  patch: number;
  /** Patches of a channel; 0 where no photographs were looked through. */
  patches: number;
  scores: number[];
  units: ({ maximum: number; histogram: { edges: number[]; counts: number[] }; examples: { name: string; value: number }[] } | null)[];
}

export type Options = Record<string, unknown>;

export interface JobRequest {
  method: string;
  network: number;
  image?: string;
  addresses?: string[];
  options: Options;
  video?: boolean;
  background?: boolean;
}

export type JobState = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled';

export interface Job {
  id: string;
  method: string;
  network: number;
  image: string | null;
  addresses: string[];
  options: Options;
  video: boolean;
  background: boolean;
  state: JobState;
  done: number;
  total: number | null;
  error: string | null;
  results: Record<string, string>;
  created: number;
}

export interface ResultFile {
  name: string;
  kind: 'picture' | 'video' | 'arrays' | 'other';
  url: string;
}

export interface Result {
  id: string;
  method: string;
  command: string;
  network: { name: string };
  caption: string;
  notes: string[];
  manifest: Record<string, unknown>;
  python: string;
  shell: string;
  files: ResultFile[];
}
