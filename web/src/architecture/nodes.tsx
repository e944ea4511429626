import { createContext, memo, use, type MouseEvent } from 'react';
import type { NodeProps } from '@xyflow/react';
import type { GraphNode } from '../api/types';
import { shapeText } from '../graph/numbers';
import { PicturedPoints } from '../reading/Pictured';
import { Icon } from '../shell/icons';
import classes from './nodes.module.css';

export interface NodeData extends Record<string, unknown> {
  node: GraphNode;
  color: string;
}

/** Folds or unfolds a container. */
export const Toggle = createContext<(id: string) => void>(() => undefined);

function Chevron({ id, label, open }: { id: string; label: string; open: boolean }) {
  const toggle = use(Toggle);
  const clicked = (event: MouseEvent) => {
    event.stopPropagation();
    toggle(id);
  };
  return (
    <button type="button" tabIndex={-1} className={`${classes.chevron} ${open ? classes.open : ''} nopan`} onClick={clicked} aria-label={`${open ? 'Fold' : 'Unfold'} ${label}`}>
      <Icon name="chevron" size={12} />
    </button>
  );
}

/** Marks a point whose channels the atlas shows. */
function Mark({ id }: { id: string }) {
  return use(PicturedPoints).includes(id) ? <span className={classes.mark} role="img" aria-label="Has pictures" /> : null;
}

export const LeafNode = memo(function LeafNode({ id, data, selected }: NodeProps & { data: NodeData }) {
  const { node, color } = data;
  return (
    <div className={`${classes.leaf} ${selected ? classes.selected : ''} ${node.container ? classes.stack : ''}`} data-node={id} title={node.id}>
      <span className={classes.swatch} style={{ background: color }} />
      {node.container ? <Chevron id={id} label={node.label} open={false} /> : <span className={classes.nothing} />}
      <span className={classes.name}>{node.label}</span>
      <span className={classes.shape}>{shapeText(node.shape) || node.module}</span>
      <Mark id={id} />
    </div>
  );
});

export const GroupNode = memo(function GroupNode({ id, data, selected }: NodeProps & { data: NodeData }) {
  const { node, color } = data;
  return (
    <div className={`${classes.group} ${selected ? classes.selected : ''}`} data-node={id}>
      <div className={classes.header} title={node.id}>
        <span className={classes.swatch} style={{ background: color }} />
        <Chevron id={id} label={node.label} open />
        <span className={classes.name}>{node.label}</span>
        <span className={classes.module}>{node.module}</span>
      </div>
      <Mark id={id} />
    </div>
  );
});

export const NODE_TYPES = { leaf: LeafNode, nest: GroupNode };
