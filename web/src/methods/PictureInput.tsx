import { MultiSelect, Select } from '@mantine/core';
import { useMemo } from 'react';
import { client } from '../api/client';
import { useImages } from '../api/queries';
import type { Field } from './fields';
import classes from './methods.module.css';

/** One or several of the pictures that the server knows, or a word in place of one. */
export function PictureInput({ field, value, error, change }: { field: Field; value: unknown; error: string | null; change: (value: unknown) => void }) {
  const { data: images } = useImages();
  const data = useMemo(
    () => [
      ...field.words.map((word) => ({ value: word, label: word })),
      ...(images ?? []).map((each) => ({ value: `image:${each.id}`, label: each.name })),
    ],
    [field.words, images],
  );
  const told = {
    label: field.title,
    description: field.help,
    error,
    required: field.required,
    data,
    searchable: true,
    clearable: true,
    limit: 100,
    placeholder: typeof field.usual === 'string' && field.usual ? field.usual : 'Choose a picture',
    renderOption: ({ option }: { option: { value: string; label: string } }) => (
      <span className={classes.option}>
        {option.value.startsWith('image:') && <img src={client.pictureUrl(option.value.slice(6))} alt="" width={28} height={28} loading="lazy" />}
        {option.label}
      </span>
    ),
  };
  if (field.kind === 'pictures') {
    const chosen = Array.isArray(value) ? (value as string[]) : typeof value === 'string' ? [value] : [];
    return <MultiSelect size="xs" {...told} value={chosen} onChange={change} />;
  }
  return <Select {...told} value={(value ?? null) as string | null} onChange={(next) => change(next ?? undefined)} />;
}
