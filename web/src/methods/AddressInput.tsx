import { Autocomplete } from '@mantine/core';
import { useMemo } from 'react';
import { useArchitectures, useLabels } from '../api/queries';
import { useOpenSession } from '../shell/session';
import { CLASSES, classesOf, found, isUnknown, pointsOf, type Field } from './fields';

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
      description={(ofClass && names.get(value)) || field.help}
      error={error ?? (ofClass && isUnknown(value, names) ? 'There is no class of this name; choose one of the list.' : null)}
      required={field.required}
      value={value}
      onChange={change}
      data={data}
      limit={MOST}
      placeholder={ofClass ? 'Search for a class' : field.required ? 'Search for a point' : 'as usual'}
      selectFirstOptionOnChange
      filter={({ options, search, limit }) => {
        const fitting = found(names, names.has(search) ? '' : search, limit);
        const held = new Set(options.flatMap((option) => ('value' in option ? [option.value] : [])));
        return fitting.filter((address) => held.has(address)).map((address) => ({ value: address, label: address }));
      }}
      onBlur={() => {
        // A name that is written out is the class of that name.
        const [first] = found(names, value, 1);
        const name = first === undefined ? '' : (names.get(first) ?? '');
        if (ofClass && value && !names.has(value) && first !== undefined && name.toLowerCase().split(' / ').includes(value.trim().toLowerCase())) change(first);
      }}
      renderOption={({ option }) => (
        <span>
          {ofClass ? names.get(option.value) : option.value} <span className="quiet">{ofClass ? option.value : names.get(option.value)}</span>
        </span>
      )}
    />
  );
}
