import { Autocomplete } from '@mantine/core';
import { useHotkeys } from '@mantine/hooks';
import { useMemo, useRef, useState } from 'react';
import { search } from '../graph/search';
import type { Tree } from '../graph/tree';
import { Icon } from '../shell/icons';
import classes from './graph.module.css';

export function Search({ tree, find }: { tree: Tree; find: (id: string) => void }) {
  const [query, setQuery] = useState('');
  const input = useRef<HTMLInputElement>(null);
  const last = useRef<string | null>(null);
  const found = useMemo(() => search(tree.nodes.values(), query), [tree, query]);
  const focus = () => input.current?.focus();
  useHotkeys([['mod+K', focus], ['/', focus]]);
  const chosen = (id: string) => {
    if (!tree.nodes.has(id)) return;
    find(id);
    // The component writes what was chosen into its field, after this.
    last.current = id;
    input.current?.blur();
  };
  return (
    <Autocomplete
      ref={input}
      aria-label="Search for a point"
      placeholder="Search  ( / )"
      className={classes.search}
      leftSection={<Icon name="search" size={13} />}
      value={query}
      onChange={(value) => {
        setQuery(value === last.current ? '' : value);
        last.current = null;
      }}
      onOptionSubmit={chosen}
      onKeyDown={(event) => {
        if (event.key === 'Escape') {
          setQuery('');
          event.currentTarget.blur();
        }
      }}
      data={found.map((node) => node.id)}
      // Ranked already.
      filter={({ options }) => options}
      selectFirstOptionOnChange
      comboboxProps={{ width: 340, position: 'bottom-end' }}
      maxDropdownHeight={360}
      renderOption={({ option }) => (
        <span>
          <span className="mono">{option.value}</span> <span className="quiet">{tree.nodes.get(option.value)?.module}</span>
        </span>
      )}
    />
  );
}
