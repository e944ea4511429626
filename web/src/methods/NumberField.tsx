import { TextInput } from '@mantine/core';
import { useState, type ReactNode } from 'react';

interface Props {
  label: ReactNode;
  description: ReactNode;
  error: ReactNode;
  required: boolean;
  value: unknown;
  placeholder: string;
  change: (value: unknown) => void;
}

/** A number as it is typed, also 1e-3: what is none stays as it is, for the form to say so. */
export function NumberField({ value, change, ...told }: Props) {
  const [typed, setTyped] = useState('');
  const held = value === undefined || value === null ? '' : String(value);
  // While it says the same number, what was typed stays: 0.50, or 1e3.
  const text = typed.trim() !== '' && Number(typed) === value ? typed : held;
  return (
    <TextInput
      {...told}
      inputMode="decimal"
      autoComplete="off"
      value={text}
      onChange={(event) => {
        const next = event.currentTarget.value;
        setTyped(next);
        const number = Number(next);
        change(next.trim() === '' ? undefined : Number.isFinite(number) ? number : next);
      }}
    />
  );
}
