import { CloseButton } from '@mantine/core';
import { useEffect, useMemo, useState } from 'react';
import type { JobRequest, Method, Net, Options } from '../api/types';
import { isActive } from '../jobs/store';
import { useRun } from '../jobs/useRun';
import { linkTo, useRoute } from '../route/useRoute';
import { RunView } from '../results/RunView';
import { useOpenSession } from '../shell/session';
import { useKept } from '../shell/useKept';
import { AddressInput } from './AddressInput';
import { fieldsOf, optionIn, type Field } from './fields';
import { MethodForm } from './MethodForm';
import classes from './methods.module.css';

interface Props {
  method: Method;
  image: string | null;
  /** For methods of units: which. */
  address: string | null;
  /** Several methods run at one press of a button. */
  together: Together;
  close?: () => void;
}

export interface Together {
  /** Of all of them; empty where each keeps its own. */
  target: string;
  count: number;
}

/** One method: its question, its form, and its result for each network. */
export function MethodCard({ method, image, address, together, close }: Props) {
  const { networks } = useOpenSession();
  const route = useRoute();
  const fields = useMemo(() => fieldsOf(method.schema), [method]);
  const [sent, setSent] = useKept<Sent | null>(`run of ${method.name}`, null);
  const [refused, setRefused] = useState<{ option: string | undefined; message: string } | null>(null);
  const [busy, setBusy] = useState(false);
  const [written, setWritten] = useKept(`unit of ${method.name}`, '');
  const chosen = method.of_classes && !address?.startsWith('class:') ? null : address;
  const unit = written || chosen;
  const of = (method.takes === 'images' ? image : unit) ?? '';
  const missing = method.takes === 'images' ? (image ? null : 'Choose a picture first.') : unit ? null : method.of_classes ? 'Choose a class.' : 'Select a channel of the network, or write one.';
  return (
    <article className={classes.card} aria-label={method.name}>
      <header className={classes.about}>
        <div className={classes.cardHead}>
          <h2>{method.name}</h2>
          {close && <CloseButton size="sm" aria-label={`Close ${method.name}`} onClick={close} />}
        </div>
        <p>{method.question}</p>
        <p className={classes.help}>{method.summary} {method.paper}</p>
        {method.takes === 'addresses' && (
          <AddressInput field={method.of_classes ? CLASS : UNIT} value={written} error={null} change={setWritten} />
        )}
        {method.takes === 'addresses' && chosen && !written && <p>Of <a className="mono" href={linkTo(route, { view: 'architecture' })}>{chosen}</a>, selected in the network.</p>}
      </header>
      {missing ? <p className="quiet">{missing}</p> : (
        <MethodForm name={`Options of ${method.name}`} fields={fields} refused={refused} busy={busy} together={together} submit={(options) => { setRefused(null); setSent({ options, of, count: (sent?.count ?? 0) + 1 }); }} />
      )}
      {sent?.of === of && !missing && (
        <div className={networks.length > 1 ? classes.pair : undefined}>
          {networks.map((net) => (
            <Outcome key={`${net.id} ${of}`} method={method} net={net} named={networks.length > 1} image={image} address={unit} sent={sent} refuse={setRefused} setBusy={setBusy} />
          ))}
        </div>
      )}
    </article>
  );
}

const NAMED: Pick<Field, 'kind' | 'required' | 'usual' | 'choices' | 'words' | 'address' | 'low' | 'high' | 'longest'> = {
  kind: 'text', required: false, usual: null, choices: [], words: [], address: true, low: undefined, high: undefined, longest: undefined,
};
const CLASS: Field = { ...NAMED, name: 'target', title: 'Class', help: 'By default the one that is selected in the network.' };
const UNIT: Field = { ...NAMED, name: 'unit', title: 'Unit', help: 'A point and a number, stage1/3, or a class, class:3; by default what is selected in the network.' };

/** What was asked for: of which picture or unit, and for the how-manieth time. */
interface Sent {
  options: Options;
  of: string;
  count: number;
}

interface OutcomeProps {
  method: Method;
  net: Net;
  named: boolean;
  image: string | null;
  address: string | null;
  sent: Sent;
  refuse: (refused: { option: string | undefined; message: string }) => void;
  setBusy: (busy: boolean) => void;
}

function Outcome({ method, net, named, image, address, sent, refuse, setBusy }: OutcomeProps) {
  const request = useMemo<JobRequest>(
    () => ({ method: method.name, network: net.id, options: sent.options, ...(method.takes === 'images' ? { image: image ?? '' } : { addresses: [address ?? ''] }) }),
    [method, net, image, address, sent],
  );
  const names = useMemo(() => Object.keys(method.schema.properties ?? {}), [method]);
  const run = useAsked(request, sent.count, names, refuse, setBusy);
  return (
    <section aria-label={`${method.name} of ${net.name}`}>
      {named && <h3 className={classes.netName}>{net.name}</h3>}
      <RunView run={run} />
    </section>
  );
}

/** Asks once for each press of the button. */
function useAsked(request: JobRequest, count: number, names: readonly string[], refuse: OutcomeProps['refuse'], setBusy: OutcomeProps['setBusy']) {
  const run = useRun(request);
  const { error, job } = run;
  const active = job !== undefined && isActive(job);
  useEffect(run.run, [count]);
  useEffect(() => {
    if (error) refuse({ option: error.option, message: error.message });
  }, [error, refuse]);
  const wrong = job?.state === 'failed' ? job.error : null;
  useEffect(() => {
    // What a method finds wrong begins with the option, as people write it.
    const option = wrong === null ? undefined : optionIn(wrong, names);
    if (wrong !== null && option !== undefined) refuse({ option, message: wrong });
  }, [wrong, names, refuse]);
  useEffect(() => setBusy(active), [active, setBusy]);
  return run;
}
