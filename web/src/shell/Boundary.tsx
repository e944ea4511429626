import { Button, Loader } from '@mantine/core';
import { Component, Suspense, type ReactNode } from 'react';
import classes from './shell.module.css';

interface Props {
  children: ReactNode;
  /** What is shown: where it changes, it is tried again. */
  at?: string | null;
}

/** Where a part of the page cannot be loaded or drawn, says so in its place; all else stays. */
export class Boundary extends Component<Props, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override componentDidUpdate(before: Props) {
    if (this.state.error && before.at !== this.props.at) this.setState({ error: null });
  }

  override render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return (
      <div className={classes.full} role="alert">
        <p>{isMissing(error) ? 'A part of this page could not be loaded; load it again once the server answers.' : `This part of the page failed: ${error.message}`}</p>
        <Button onClick={() => window.location.reload()}>Load the page again</Button>
      </div>
    );
  }
}

/** A part whose code comes when it is needed. */
export function Later({ children, at = null }: Props) {
  return (
    <Boundary at={at}>
      <Suspense fallback={<Loader m="md" size="sm" aria-label="Loading" />}>{children}</Suspense>
    </Boundary>
  );
}

/** Of what a browser says of a file that it could not import; each has its own words. */
function isMissing(error: Error): boolean {
  return /import|module script|preload/i.test(error.message);
}
