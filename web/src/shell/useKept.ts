import { useSessionStorage } from '@mantine/hooks';

/** A state that a tab of the browser keeps: when another part of the page is shown, and when it is loaded again. */
export function useKept<T>(key: string, usual: T): [T, (next: T | ((held: T) => T)) => void] {
  const [value, set] = useSessionStorage<T>({ key: `inward ${key}`, defaultValue: usual, getInitialValueInEffect: false });
  return [value, set];
}
