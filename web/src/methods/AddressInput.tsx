import { Autocomplete } from '@mantine/core';
import { useMemo } from 'react';
import { useArchitecture, useLabels } from '../api/queries';
import { CLASSES, type Field } from './fields';

const MOST = 40;

/** A class by its name, or any point by its address; what is not listed can be written too. */
export function AddressInput({ field, value, error, change }: { field: Field; value: string; error: string | null; change: (value: string) => void }) {
  const ofClass = CLASSES.has(field.name);
  const { data: labels } = useLabels(0);
  const { data: architecture } = useArchitecture(0);
  const names = useMemo(() => {
    const found = new Map<string, string>();
    if (ofClass) for (const [index, label] of (labels?.labels ?? []).entries()) found.set(`class:${index}`, label);
    else for (const node of architecture?.nodes ?? []) if (node.point) found.set(node.id, node.module);
    return found;
  }, [ofClass, labels, architecture]);
  const data = useMemo(() => [...names.keys()], [names]);
  return (
    <Autocomplete
      label={field.title}
      description={field.help}
      error={error}
      required={field.required}
      value={value}
      onChange={change}
      data={data}
      limit={MOST}
      placeholder={ofClass ? 'Search for a class' : 'as usual'}
      filter={({ options, search, limit }) => {
        const wanted = search.trim().toLowerCase();
        return options.filter((option) => 'value' in option && `${option.value} ${names.get(option.value) ?? ''}`.toLowerCase().includes(wanted)).slice(0, limit);
      }}
      renderOption={({ option }) => (
        <span>
          {ofClass ? names.get(option.value) : option.value} <span className="quiet">{ofClass ? option.value : names.get(option.value)}</span>
        </span>
      )}
    />
  );
}
