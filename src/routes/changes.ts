import type { IpTool } from './ip.js';

/** A command for `ip -batch` or `bridge -batch`: the one form in which anything here asks the kernel for something. */
export interface Change {
  /** What it is about, for complaints: a subnet, a device. */
  readonly subject: string;
  readonly command: string;
  /** What it does, as one reads it when it is done; empty when it is not worth a line. */
  readonly text: string;
}

/** What became of many changes. */
export interface Outcome {
  /** One line of text for each change that was made. */
  readonly done: readonly string[];
  /** By subject: why a change was refused. */
  readonly failed: ReadonlyMap<string, string>;
}

/** Carries out every change in one process; one that is refused does not stop the others. */
export async function applyChanges(changes: readonly Change[], tool: Pick<IpTool, 'batchAll'>): Promise<Outcome> {
  const { failures } = await tool.batchAll(changes.map(({ command }) => command));
  const refused = new Map(failures.map(({ line, error }) => [line, error]));
  const done: string[] = [];
  const failed = new Map<string, string>();
  for (const { subject, command, text } of changes) {
    const error = refused.get(command);
    if (error !== undefined) {
      const earlier = failed.has(subject) ? `${failed.get(subject)}; ` : '';
      failed.set(subject, `${earlier}"${command}" was refused: ${error}`);
    } else if (text !== '') done.push(text);
  }
  return { done, failed };
}

/** The same lines, but not thousands of them: the daemon logs each. */
export function shorten(lines: readonly string[], most = 20): readonly string[] {
  return lines.length <= most
    ? lines
    : [...lines.slice(0, most - 1), `… and ${lines.length - most + 1} more like these`];
}
