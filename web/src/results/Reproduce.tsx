import { ActionIcon, CopyButton, Tooltip } from '@mantine/core';
import type { Result } from '../api/types';
import { Icon } from '../shell/icons';
import classes from './results.module.css';

export function Reproduce({ result }: { result: Result }) {
  return (
    <div className={classes.reproduce}>
      <Lines name="Python" text={result.python} />
      {result.shell && <Lines name="Shell" text={result.shell} />}
      <details>
        <summary>Manifest</summary>
        <pre tabIndex={0} className={classes.code}>{JSON.stringify(result.manifest, null, 2)}</pre>
      </details>
      <ul className={classes.files} aria-label="Files">
        {result.files.map((file) => (
          <li key={file.name}>
            <a href={file.url} download={file.name}>
              <Icon name="download" size={12} /> {file.name}
            </a>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Lines({ name, text }: { name: string; text: string }) {
  return (
    <div>
      <div className={classes.linesHead}>
        <h4>{name}</h4>
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Tooltip label={copied ? 'Copied' : 'Copy'}>
              <ActionIcon size="sm" aria-label={copied ? `${name} copied` : `Copy ${name}`} onClick={copy}>
                <Icon name="copy" size={13} />
              </ActionIcon>
            </Tooltip>
          )}
        </CopyButton>
      </div>
      <pre tabIndex={0} className={classes.code}>{text}</pre>
    </div>
  );
}
