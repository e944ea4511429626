import { Autocomplete } from '@mantine/core';
import { useMemo } from 'react';
import { useArchitectures, useLabels } from '../api/queries';
import { useOpenSession } from '../shell/session';
import { CLASSES, classesOf, pointsOf, type Field } from './fields';

const MOST = 40;

/** A class by its name, or any point by its address, of any of the networks; what is not listed can be written too. */
export function AddressInput({ field, value, error, change }: { field: Field; value: string; error: string | null; change: (value: string) => void }) {
  const ofClass = CLASSES.has(field.name);
  const { networks } = useOpenSession();
  const nets = useMemo(() => networks.map((net) => net.id), [networks]);
  const labels = useLabels(nets);
  const architectures = useArchitectures(nets);
  const names = useMemo(() => (ofClass ? classesOf(labels.map((each) => each.labels)) : pointsOf(architectures)), [ofClass, labels, architectures]);
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
