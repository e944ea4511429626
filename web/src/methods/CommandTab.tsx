import { Checkbox, Select } from '@mantine/core';
import type { Method } from '../api/types';
import { useKept } from '../shell/useKept';
import { MethodCard } from './MethodCard';
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
  const shown = methods.filter((method) => chosen.includes(method.name));
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
      <div className={classes.cards}>
        {shown.map((method) => (
          <MethodCard
            key={method.name}
            method={method}
            image={image}
            address={address}
            {...(methods.length > 1 ? { close: () => setChosen(chosen.filter((name) => name !== method.name)) } : {})}
          />
        ))}
      </div>
    </div>
  );
}
