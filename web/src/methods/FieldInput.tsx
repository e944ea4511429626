import { Select, Slider, Switch, TagsInput, TextInput } from '@mantine/core';
import type { Options } from '../api/types';
import { AddressInput } from './AddressInput';
import { epsScaleOf, type EpsScale, type Field } from './fields';
import { NumberField } from './NumberField';
import { PictureInput } from './PictureInput';
import classes from './methods.module.css';

interface Props {
  field: Field;
  fields: Field[];
  values: Options;
  error: string | null;
  change: (value: unknown) => void;
}

const STEPS = 255;

export function FieldInput({ field, fields, values, error, change }: Props) {
  const value = values[field.name];
  const usual = field.required ? '' : field.usual === null || field.usual === '' ? 'as usual' : String(field.usual);
  const told = { label: field.title, description: field.help, error, required: field.required };
  if (field.kind === 'boolean') {
    return (
      <Switch {...told} checked={(value ?? field.usual ?? false) as boolean} onChange={(event) => change(event.currentTarget.checked)} />
    );
  }
  if (field.kind === 'choice') {
    return <Select {...told} data={field.choices} value={(value ?? field.usual) as string | null} onChange={change} allowDeselect={false} placeholder={usual} />;
  }
  const scale = epsScaleOf(field, fields, values);
  if (scale?.norm === 'linf') return <Eps field={field} scale={scale} value={value as number | undefined} error={error} change={change} />;
  if (scale) {
    return (
      <div>
        <NumberField {...told} value={value} placeholder={String(scale.usual)} change={change} />
        <Slider aria-label={`${field.title} in ${scale.norm}`} thumbLabel={`${field.title} in ${scale.norm}`} min={0} max={scale.most} step={scale.step} value={typeof value === 'number' ? value : scale.usual} onChange={(next) => change(Number(next.toFixed(3)))} size="sm" my={8} />
      </div>
    );
  }
  if (field.kind === 'number' || field.kind === 'integer') {
    return <NumberField {...told} value={value} placeholder={usual} change={change} />;
  }
  if (field.kind === 'picture' || field.kind === 'pictures') return <PictureInput field={field} value={value} error={error} change={change} />;
  if (field.kind === 'numbers' || field.kind === 'texts') {
    return <TagsInput {...told} value={((value ?? []) as unknown[]).map(String)} onChange={change} placeholder="Write one, then press Enter" />;
  }
  if (field.address) return <AddressInput field={field} value={(value ?? '') as string} error={error} change={change} />;
  return <TextInput {...told} value={(value ?? '') as string} onChange={(event) => change(event.currentTarget.value)} placeholder={usual} />;
}

/** The size of a change in steps of an 8-bit picture. */
function Eps({ field, scale, value, error, change }: { field: Field; scale: EpsScale; value: number | undefined; error: string | null; change: (value: number) => void }) {
  const steps = Math.round((value ?? scale.usual) * STEPS);
  return (
    <div>
      <span className={classes.label}>{field.title}: <span className="num">{steps}/{STEPS}</span></span>
      <p className={classes.help}>{field.help}</p>
      <Slider aria-label={`${field.title} in 255ths`} thumbLabel={`${field.title} in 255ths`} min={0} max={scale.most * STEPS} value={steps} onChange={(next) => change(next / STEPS)} label={(next) => `${next}/${STEPS}`} marks={MARKS} size="sm" my={6} />
      {error && <p className={classes.bad}>{error}</p>}
    </div>
  );
}

const MARKS = [{ value: 2 }, { value: 4 }, { value: 8 }, { value: 16 }];
