import { useSteps } from '../api/queries';
import type { ResultFile, Steps } from '../api/types';
import { percent } from '../graph/numbers';
import { WIDTH, HEIGHT, lineOf } from './steps';
import classes from './results.module.css';

/** After Okabe and Ito: told apart with and without color vision, and by their dashes too. */
const LINES = [
  { color: '#0072b2', dash: undefined },
  { color: '#d55e00', dash: '7 3' },
  { color: '#009e73', dash: '2 3' },
  { color: '#cc79a7', dash: '9 3 2 3' },
  { color: '#8a8d91', dash: '4 4' },
];

/** What the network answered on the way of an attack. */
export function StepChart({ file }: { file: ResultFile }) {
  const { data, error } = useSteps(file);
  if (error) return <p className={classes.bad}>{error.message}</p>;
  if (!data) return null;
  return (
    <figure className={classes.steps}>
      <h4>Probabilities by step</h4>
      <div className={classes.plot}>
        <span className={classes.top}>100 %</span>
        <span className={classes.bottom}>0</span>
        <Plot steps={data} />
      </div>
      <div className={classes.axis}>
        <span>before</span>
        <span>{data.passes.length > 2 ? 'passes' : ''}</span>
        <span>{data.passes.length > 2 ? data.passes.at(-1) : 'after'}</span>
      </div>
      <ul className={classes.key}>
        {data.classes.map((each, index) => (
          <li key={each.class}>
            <svg width="24" height="8" aria-hidden="true">
              <line x1="0" x2="24" y1="4" y2="4" stroke={LINES[index]?.color} strokeWidth="2" strokeDasharray={LINES[index]?.dash} />
            </svg>
            <span className={classes.keyName}>{each.label}</span>
            <span className="quiet num">{percent(each.probabilities[0] ?? 0)} to {percent(each.probabilities.at(-1) ?? 0)}</span>
          </li>
        ))}
      </ul>
    </figure>
  );
}

function Plot({ steps }: { steps: Steps }) {
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label="Probabilities of classes by step of the attack; the list below names their first and last values">
      {[0, 0.5, 1].map((share) => <line key={share} className={classes.gridLine} x1={0} x2={WIDTH} y1={share * HEIGHT} y2={share * HEIGHT} vectorEffect="non-scaling-stroke" />)}
      {steps.classes.map((each, index) => (
        <path key={each.class} d={lineOf(steps.passes, each.probabilities)} fill="none" stroke={LINES[index]?.color} strokeWidth="2" strokeDasharray={LINES[index]?.dash} vectorEffect="non-scaling-stroke" />
      ))}
    </svg>
  );
}
