import { four, percent, short } from '../graph/numbers';

/** One number of a result, as people read it. */
export interface Measure {
  name: string;
  value: string;
}

const NAMES: Record<string, string> = {
  address: 'Unit',
  target: 'Target',
  label: 'Class it leaves',
  answer: 'Answer now',
  answer_before: 'Answer before',
  error: 'Error',
  signed_error: 'Signed error',
  standard_error: 'Standard error',
  success: 'Success',
  success_unrounded: 'Success before rounding',
  final: 'Objective',
  before: 'Objective before',
  linf: 'Largest change (L∞)',
  l2: 'Length of the change (L2)',
  l1: 'Sum of the change (L1)',
  l0: 'Pixels changed',
  psnr: 'Likeness (PSNR, dB)',
  ssim: 'Likeness (SSIM)',
  r2: 'Fit (R²)',
};

/** What is a share of something. */
const SHARES = new Set(['error', 'signed_error', 'distance_left', 'content', 'style_left', 'loss_left', 'overlap_error', 'rate']);
const ADDRESSES = new Set(['address', 'target', 'label', 'answer', 'answer_before']);
/** Lists of these are long, and the manifest has them. */
const LEFT_OUT = new Set(['weights', 'score_kind', 'pictures']);
const MOST = 6;

/** The numbers of a result in words; a class by its name, a change in steps of an 8-bit picture. */
export function measuresOf(scores: Readonly<Record<string, unknown>>, labels: readonly string[] | null): Measure[] {
  return Object.entries(scores)
    .filter(([key, value]) => !LEFT_OUT.has(key) && value !== null && value !== '')
    .map(([key, value]) => ({ name: nameOf(key, scores), value: told(key, value, labels) }));
}

function nameOf(key: string, scores: Readonly<Record<string, unknown>>): string {
  const kind = scores.score_kind;
  // Of attacks on the answer: how far the logit of the class that was wanted is above all others.
  if (key === 'final' && 'success' in scores) return 'Margin of logits';
  if (key === 'score') return typeof kind === 'string' && kind ? capital(kind) : 'Score';
  return NAMES[key] ?? capital(key.replaceAll('_', ' '));
}

function told(key: string, value: unknown, labels: readonly string[] | null): string {
  if (Array.isArray(value)) {
    const first = value.slice(0, MOST).map((each) => told(key, each, labels)).join(', ');
    return value.length > MOST ? `${first}, and ${value.length - MOST} more` : first;
  }
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return ADDRESSES.has(key) ? withName(value, labels) : value;
  if (typeof value !== 'number') return JSON.stringify(value);
  if (key === 'linf') return inSteps(value);
  if (SHARES.has(key)) return value < 0 ? `−${percent(-value)}` : percent(value);
  const size = Math.abs(value);
  if (Number.isInteger(value)) return value.toLocaleString('en');
  return size >= 1000 && size < 1e9 ? Math.round(value).toLocaleString('en') : four(value);
}

/** `class:3` of ten known classes is "chain saw (class:3)". */
export function withName(address: string, labels: readonly string[] | null): string {
  const unit = /^class:(\d+)$/.exec(address)?.[1];
  const name = unit === undefined ? undefined : labels?.[Number(unit)];
  return name === undefined || name === unit ? address : `${name} (${address})`;
}

function inSteps(value: number): string {
  const steps = value * 255;
  const whole = Math.round(steps);
  return Math.abs(steps - whole) < 0.005 ? `${whole}/255` : `${short(steps)}/255`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
