import type { Architecture, Options, Property, Schema } from '../api/types';

export type FieldKind = 'number' | 'integer' | 'boolean' | 'choice' | 'text' | 'numbers' | 'texts' | 'picture' | 'pictures';

/** One option of a method, as a form asks for it. */
export interface Field {
  name: string;
  title: string;
  help: string;
  kind: FieldKind;
  required: boolean;
  /** What the method takes where nothing is given. */
  usual: unknown;
  choices: string[];
  /** Words that a picture may be replaced by. */
  words: string[];
  /** A unit, a class or a point. */
  address: boolean;
  low: number | undefined;
  high: number | undefined;
  longest: number | undefined;
}

/** Beyond this a bound only keeps numbers finite, and is not worth telling. */
const WHOLE = 1e6;

export function fieldsOf(schema: Schema): Field[] {
  return Object.entries(schema.properties ?? {}).map(([name, property]) => fieldOf(name, property, schema.required?.includes(name) ?? false));
}

function fieldOf(name: string, property: Property, required: boolean): Field {
  const all = (property.anyOf ?? [property]).filter((each) => each.type !== 'null');
  const main = all.find((each) => each.type === 'array') ?? all[0] ?? {};
  const bound = (value: number | undefined) => (value === undefined || Math.abs(value) >= WHOLE ? undefined : value);
  return {
    name,
    title: capital(property.title ?? name.replaceAll('_', ' ')),
    help: sentence(property.description ?? '', main.enum ?? property['x-words'] ?? []),
    kind: kindOf(main, property['x-pictures'] ?? false),
    required,
    usual: property.default ?? null,
    choices: (main.enum ?? (main.const === undefined ? [] : [main.const])).map(String),
    words: property['x-words'] ?? [],
    address: property['x-address'] ?? CLASSES.has(name),
    low: bound(main.minimum ?? main.exclusiveMinimum),
    high: bound(main.maximum ?? main.exclusiveMaximum),
    longest: main.maxLength,
  };
}

/** Options that name a class, whatever the schema says of them. */
export const CLASSES: ReadonlySet<string> = new Set(['target', 'label']);

/** The classes of networks by address, each with the names that these have for it. */
export function classesOf(labels: readonly (readonly string[] | null)[]): Map<string, string> {
  const found = new Map<string, string[]>();
  for (const each of labels) {
    for (const [index, label] of (each ?? []).entries()) {
      const held = found.get(`class:${index}`) ?? [];
      if (!held.includes(label)) found.set(`class:${index}`, [...held, label]);
    }
  }
  return new Map([...found].map(([address, names]) => [address, names.join(' / ')]));
}

/** Which of these fit what is typed: those of that name or address, then beginnings of words, then any part. */
export function found(names: ReadonlyMap<string, string>, typed: string, most: number): string[] {
  const wanted = typed.trim().toLowerCase();
  const rankOf = (address: string, name: string): number => {
    if (address === wanted || address === `class:${wanted}` || name === wanted || name.split(' / ').includes(wanted)) return 0;
    if (name.startsWith(wanted) || address.startsWith(wanted)) return 1;
    if (name.includes(` ${wanted}`)) return 2;
    return name.includes(wanted) || (!address.startsWith('class:') && address.includes(wanted)) ? 3 : 4;
  };
  const ranked = [...names].map(([address, name], at) => ({ address, at, rank: rankOf(address.toLowerCase(), name.toLowerCase()) }));
  return ranked.filter((each) => each.rank < 4).sort((a, b) => a.rank - b.rank || a.at - b.at).slice(0, most).map((each) => each.address);
}

/** Whether this is no class that is known, while nothing fits it either; addresses of points may be meant elsewhere. */
export function isUnknown(value: string, names: ReadonlyMap<string, string>): boolean {
  const plain = value.trim();
  return plain !== '' && names.size > 0 && !/[:/.\d]/.test(plain) && found(names, plain, 1).length === 0;
}

/** The points of networks, each with its module. */
export function pointsOf(architectures: readonly Architecture[]): Map<string, string> {
  const points = architectures.flatMap((each) => each.nodes.filter((node) => node.point));
  return new Map(points.map((node) => [node.id, node.module]));
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A description as a sentence, unless it begins with a word that is to be written as it is. */
function sentence(text: string, words: readonly unknown[]): string {
  return words.includes(/^[\w-]*/.exec(text)?.[0]) ? text : capital(text);
}

function kindOf(property: Property, pictures: boolean): FieldKind {
  if (pictures) return property.type === 'array' ? 'pictures' : 'picture';
  if (property.enum || property.const !== undefined) return 'choice';
  if (property.type === 'array') return property.items?.type === 'number' || property.items?.type === 'integer' ? 'numbers' : 'texts';
  if (property.type === 'number' || property.type === 'integer' || property.type === 'boolean') return property.type;
  return 'text';
}

/** What is wrong with a value, in one sentence, or null. */
export function faultOf(field: Field, value: unknown): string | null {
  if (isEmpty(value)) return field.required ? 'This has to be given.' : null;
  if (field.kind === 'number' || field.kind === 'integer') {
    if (typeof value !== 'number' || !Number.isFinite(value)) return 'Write a number.';
    if (field.kind === 'integer' && !Number.isInteger(value)) return 'Write a whole number.';
    if (field.low !== undefined && value < field.low) return `At least ${field.low}.`;
    if (field.high !== undefined && value > field.high) return `At most ${field.high}.`;
  }
  if (field.kind === 'choice' && !field.choices.includes(String(value))) return `One of ${field.choices.join(', ')}.`;
  if (field.kind === 'numbers' && Array.isArray(value) && value.some((each) => !Number.isFinite(Number(each)))) return 'Write numbers.';
  if (typeof value === 'string' && field.longest !== undefined && value.length > field.longest) return `At most ${field.longest} letters.`;
  return null;
}

/** Of which option a sentence of a method is: the first that it names among its first words. */
export function optionIn(sentence: string, names: readonly string[]): string | undefined {
  const words = sentence.slice(0, 60).toLowerCase().replaceAll('_', ' ').replaceAll('--', '').replaceAll('-', ' ');
  const places = names.map((name) => ({ name, at: words.search(new RegExp(`\\b${name.replaceAll('_', ' ')}\\b`)) })).filter(({ at }) => at >= 0);
  return places.sort((a, b) => a.at - b.at || b.name.length - a.name.length)[0]?.name;
}

/** What goes into the request: what differs from the usual, each as its type. */
export function optionsOf(fields: readonly Field[], values: Options): Options {
  const found: Options = {};
  for (const field of fields) {
    const value = values[field.name];
    if (isEmpty(value)) continue;
    const typed = field.kind === 'numbers' && Array.isArray(value) ? value.map(Number) : value;
    if (JSON.stringify(typed) !== JSON.stringify(field.usual)) found[field.name] = typed;
  }
  return found;
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0);
}

/** What most people set; all others wait behind a button. */
const FIRST = ['target', 'label', 'eps', 'norm', 'at', 'of', 'style', 'layer', 'steps'];

export function isFirst(field: Field): boolean {
  return field.required || FIRST.includes(field.name);
}

/** How the size of a change is chosen on a slider, in each norm; `usual` as methods have it that do not say. */
export interface EpsScale {
  norm: string;
  most: number;
  step: number;
  usual: number;
}

const EPS: Record<string, Omit<EpsScale, 'norm'>> = {
  linf: { most: 32 / 255, step: 1 / 255, usual: 8 / 255 },
  l2: { most: 5, step: 0.05, usual: 0.5 },
  l1: { most: 50, step: 0.5, usual: 12 },
};

/** Of the option that is the size of a change; null for all others. */
export function epsScaleOf(field: Field, fields: readonly Field[], values: Options): EpsScale | null {
  if (field.name !== 'eps' || field.kind !== 'number') return null;
  const norms = fields.find((each) => each.name === 'norm');
  const norm = norms === undefined ? 'linf' : String(values.norm ?? norms.usual);
  const scale = EPS[norm];
  return scale ? { norm, ...scale, usual: typeof field.usual === 'number' ? field.usual : scale.usual } : null;
}
