import { Fragment } from 'react';
import { ancestorsOf, type Tree } from '../graph/tree';
import classes from './graph.module.css';

interface Props {
  tree: Tree;
  name: string;
  selected: string | null;
  select: (id: string | null) => void;
}

export function Crumbs({ tree, name, selected, select }: Props) {
  const way = selected ? [...ancestorsOf(tree, selected), selected] : [];
  return (
    <nav className={classes.crumbs} aria-label="Selected point">
      <button type="button" className={classes.crumb} onClick={() => select(null)} aria-current={selected ? undefined : 'location'}>
        {name}
      </button>
      {way.map((id) => (
        <Fragment key={id}>
          <span className="quiet" aria-hidden="true">/</span>
          <button type="button" className={classes.crumb} title={id} onClick={() => select(id)} aria-current={id === selected ? 'location' : undefined}>
            {tree.nodes.get(id)?.label}
          </button>
        </Fragment>
      ))}
    </nav>
  );
}
