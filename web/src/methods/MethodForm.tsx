import { Button } from '@mantine/core';
import { useState, type FormEvent } from 'react';
import type { Options } from '../api/types';
import { useKept } from '../shell/useKept';
import { FieldInput } from './FieldInput';
import { faultOf, isFirst, optionsOf, type Field } from './fields';
import classes from './methods.module.css';

interface Props {
  name: string;
  fields: Field[];
  /** What the server finds wrong with an option. */
  refused: { option: string | undefined; message: string } | null;
  busy: boolean;
  submit: (options: Options) => void;
}

/** A form for any method, made of the schema of its options. */
export function MethodForm({ name, fields, refused, busy, submit }: Props) {
  const [values, setValues] = useKept<Options>(name, {});
  const [tried, setTried] = useState(false);
  const [all, setAll] = useState(false);
  const [changed, setChanged] = useState(false);
  const faults = new Map(fields.map((field) => [field.name, faultOf(field, values[field.name])]));
  const first = fields.filter(isFirst);
  const more = fields.filter((field) => !isFirst(field));
  const opened = all || more.some((field) => faults.get(field.name) && tried) || more.some((field) => field.name === refused?.option);

  const send = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if ([...faults.values()].some((fault) => fault !== null)) return;
    setChanged(false);
    submit(optionsOf(fields, values));
  };
  const input = (field: Field) => (
    <FieldInput
      key={field.name}
      field={field}
      fields={fields}
      values={values}
      error={((tried || field.name in values) && faults.get(field.name)) || (!changed && refused?.option === field.name ? refused.message : null)}
      change={(value) => {
        setValues({ ...values, [field.name]: value });
        setChanged(true);
      }}
    />
  );
  return (
    <form className={classes.form} onSubmit={send} noValidate aria-label={name}>
      {first.map(input)}
      {more.length > 0 && (
        <button type="button" className={classes.more} aria-expanded={opened} onClick={() => setAll(!all)}>
          {opened ? 'Fewer options' : more.length === 1 ? 'One more option' : `${more.length} more options`}
        </button>
      )}
      {opened && more.map(input)}
      <Button type="submit" variant="filled" loading={busy}>Run</Button>
    </form>
  );
}
