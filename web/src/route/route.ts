/** Where the page is: everything that a link to it has to hold. */
export interface Route {
  net: number;
  view: 'architecture' | 'picture';
  point: string | null;
  unit: number | null;
  image: string | null;
  /** Of the picture view: the command whose methods are shown. */
  tab: string | null;
}

/** The channel of an address that has none. */
export const NO_UNIT = -1;

export const START: Route = { net: 0, view: 'architecture', point: null, unit: null, image: null, tab: null };

/** `#/0/mixed4a/97?image=cat`: network, point and channel; `#/0?tab=explain` is the picture view. */
export function parse(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split('?', 2);
  const [net = '', point = '', unit = ''] = path.split('/').slice(1).map(decoded);
  const asked = new URLSearchParams(search);
  const tab = asked.get('tab');
  return {
    net: whole(net) ?? 0,
    view: tab ? 'picture' : 'architecture',
    point: point || null,
    // What is no number is no channel: the page says so.
    unit: point && unit ? (whole(unit) ?? NO_UNIT) : null,
    image: asked.get('image'),
    tab,
  };
}

export function format(route: Route): string {
  const parts = [String(route.net)];
  if (route.point) parts.push(encoded(route.point));
  if (route.point && route.unit !== null) parts.push(String(route.unit));
  const search = new URLSearchParams();
  if (route.image) search.set('image', route.image);
  if (route.view === 'picture') search.set('tab', route.tab ?? 'explain');
  const told = search.toString();
  return `#/${parts.join('/')}${told ? `?${told}` : ''}`;
}

/** Where an address leads that is written as in Python: `class:281` a unit of the logits, `image` the picture. */
export function aliased(route: Pick<Route, 'point' | 'unit'>, logits: string | null, input: string | undefined): Pick<Route, 'point' | 'unit'> | null {
  const unit = /^class:(\d{1,9})$/.exec(route.point ?? '')?.[1];
  if (unit !== undefined && logits !== null) return { point: logits, unit: Number(unit) };
  return route.point === 'image' && input !== undefined ? { point: input, unit: null } : null;
}

/** A unit as the server addresses it. */
export function addressOf(point: string, unit: number): string {
  return `${point}/${unit}`;
}

function whole(text: string): number | null {
  return /^\d{1,9}$/.test(text) ? Number(text) : null;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll('%3A', ':');
}
