const PATHS = {
  chevron: 'M6 4l4 4-4 4',
  down: 'M4 6l4 4 4-4',
  search: 'M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM11 11l3.5 3.5',
  close: 'M4 4l8 8M12 4l-8 8',
  sun: 'M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z',
  system: 'M2 3h12v8H2zM6 14h4M8 11v3',
  fit: 'M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  fold: 'M8 1v4M5.5 3L8 5.5 10.5 3M8 15v-4M5.5 13L8 10.5 10.5 13M2 8h12',
  unfold: 'M8 6V1.5M5.5 4L8 1.5 10.5 4M8 10v4.5M5.5 12L8 14.5 10.5 12M2 8h12',
  toBottom: 'M8 2v11M4 9l4 4 4-4',
  toRight: 'M2 8h11M9 4l4 4-4 4',
  jobs: 'M2 4h12M2 8h8M2 12h5',
  upload: 'M8 11V2M4.5 5.5L8 2l3.5 3.5M2 11v3h12v-3',
  previous: 'M10 3L5 8l5 5',
  next: 'M6 3l5 5-5 5',
  copy: 'M5 5V2h9v9h-3M2 5h9v9H2z',
  download: 'M8 2v9M4.5 7.5L8 11l3.5-3.5M2 14h12',
  larger: 'M4 10l4-4 4 4',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
