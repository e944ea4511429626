import { Button } from '@mantine/core';
import { useEffect, useRef, useState } from 'react';
import type { Options } from '../api/types';
import { useKept } from '../shell/useKept';
import { FieldInput } from './FieldInput';
import { faultOf, isFirst, optionsOf, type Field } from './fields';
import type { Together } from './MethodCard';
import classes from './methods.module.css';

interface Props {
  name: string;
  fields: Field[];
  /** What the server finds wrong with an option. */
  refused: { option: string | undefined; message: string } | null;
  busy: boolean;
  together: Together;
  submit: (options: Options) => void;
}

/** A form for any method, made of the schema of its options. */
export function MethodForm({ name, fields, refused, busy, together, submit }: Props) {
  const [values, setValues] = useKept<Options>(name, {});
  const [tried, setTried] = useState(false);
  const [all, setAll] = useState(false);
  const [changed, setChanged] = useState(false);
  const faults = new Map(fields.map((field) => [field.name, faultOf(field, values[field.name])]));
  const first = fields.filter(isFirst);
  const more = fields.filter((field) => !isFirst(field));
  const opened = all || more.some((field) => faults.get(field.name) && tried) || more.some((field) => field.name === refused?.option);

  const send = (told: Options) => {
    setTried(true);
    if (fields.some((field) => faultOf(field, told[field.name]) !== null)) return;
    setChanged(false);
    submit(optionsOf(fields, told));
  };
  const begun = useRef(together.count);
  useEffect(() => {
    // Only a press of the button, not the count that a card finds when it is opened.
    if (together.count === begun.current) return;
    begun.current = together.count;
    const target = together.target && fields.some((field) => field.name === 'target') ? { target: together.target } : {};
    const all = { ...values, ...target };
    setValues(all);
    send(all);
  }, [together]);
  const input = (field: Field) => (
    <FieldInput
      key={field.name}
      field={field}
      fields={fields}
      values={values}
      error={((tried || field.name in values) && faults.get(field.name)) || (!changed && refused?.option === field.name ? refused.message : null)}
      change={(value) => {
        // A size in one norm is none in another.
        setValues({ ...values, [field.name]: value, ...(field.name === 'norm' ? { eps: undefined } : {}) });
        setChanged(true);
      }}
    />
  );
  return (
    <form className={classes.form} onSubmit={(event) => { event.preventDefault(); send(values); }} noValidate aria-label={name}>
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
