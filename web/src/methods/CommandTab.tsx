import { Button, Checkbox, Select } from '@mantine/core';
import { useMemo, useState } from 'react';
import type { Method } from '../api/types';
import { useKept } from '../shell/useKept';
import { AddressInput } from './AddressInput';
import { fieldsOf, type Field } from './fields';
import { MethodCard, type Together } from './MethodCard';
import classes from './methods.module.css';

interface Props {
  command: string;
  methods: Method[];
  image: string | null;
  address: string | null;
}

/** All methods of one command: those that are ticked, side by side. */
export function CommandTab({ command, methods, image, address }: Props) {
  const [chosen, setChosen] = useKept<string[]>(`methods of ${command}`, methods.slice(0, 1).map((method) => method.name));
  const shown = useMemo(() => methods.filter((method) => chosen.includes(method.name)), [methods, chosen]);
  const [together, setTogether] = useState<Together>({ target: '', count: 0 });
  return (
    <div className={classes.tab}>
      {methods.length > 1 && (
        <Checkbox.Group value={chosen} onChange={setChosen} className={classes.group}>
          <div className={classes.methods} role="group" aria-label={`Methods of ${command}`}>
          {methods.map((method) => (
            <Checkbox key={method.name} value={method.name} label={method.name} title={method.question} />
          ))}
          </div>
        </Checkbox.Group>
      )}
      {methods.length > 1 && (
        <Select
          className={classes.pick}
          aria-label="Add a method"
          placeholder="Add a method"
          value={null}
          data={methods.map((method) => method.name).filter((name) => !chosen.includes(name))}
          onChange={(name) => name && setChosen([...chosen, name])}
        />
      )}
      {shown.length === 0 && <p className="quiet">Tick one or several methods to see them side by side.</p>}
      {shown.length > 1 && (
        <All key={command} target={targetOf(shown)} count={shown.length} run={(target) => setTogether({ target, count: together.count + 1 })} />
      )}
      <div className={classes.cards}>
        {shown.map((method) => (
          <MethodCard
            key={method.name}
            method={method}
            image={image}
            address={address}
            together={together}
            {...(methods.length > 1 ? { close: () => setChosen(chosen.filter((name) => name !== method.name)) } : {})}
          />
        ))}
      </div>
    </div>
  );
}

/** The option that names what is explained or attacked, where all of several methods have it. */
function targetOf(methods: readonly Method[]): Field | undefined {
  const targets = methods.map((method) => fieldsOf(method.schema).find((field) => field.name === 'target'));
  return targets.every((field) => field !== undefined) ? targets[0] : undefined;
}

/** One target and one button for several methods, so that what they find can be compared. */
function All({ target, count, run }: { target: Field | undefined; count: number; run: (target: string) => void }) {
  const [value, setValue] = useState('');
  return (
    <form className={classes.all} aria-label="All of these methods" noValidate onSubmit={(event) => { event.preventDefault(); run(target ? value : ''); }}>
      {target && <AddressInput field={{ ...target, required: false, title: 'Target of all', help: 'Left empty, each method keeps its own.' }} value={value} error={null} change={setValue} />}
      <Button type="submit" variant="filled">Run all {count}</Button>
    </form>
  );
}
