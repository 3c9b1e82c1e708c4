import { printableJson, printableLines } from '../base/printable.js';

let used = false;
let fault: NodeJS.ErrnoException | null = null;

/** Standard output, whose errors are remembered and end nobody: {@link outputFault} tells of them. */
export function standardOutput(): NodeJS.WriteStream {
  if (!used) {
    used = true;
    process.stdout.on('error', (error) => {
      fault ??= error;
    });
  }
  return process.stdout;
}

/** Writes what a command makes, as it is. */
export function printOut(content: string | Uint8Array): void {
  standardOutput().write(content);
}

/** Writes a command's result for people; nothing in it that came from outside can command their terminal. */
export function printText(text: string): void {
  printOut(printableLines(text));
}

/** Writes a command's result for programs. @param indent 0: on one line */
export function printJson(value: unknown, indent = 2): void {
  printOut(`${printableJson(value, indent)}\n`);
}

/**
 * Waits until all is written. @returns why not all of it is, as on a full disk; null also where the reader has gone, who has
 * seen enough, as `head` has
 */
export async function outputFault(): Promise<NodeJS.ErrnoException | null> {
  if (!used) return null;
  await new Promise((resolve) => process.stdout.write('', resolve));
  await new Promise((resolve) => setImmediate(resolve)); // the error is told after the write's end
  return fault?.code === 'EPIPE' ? null : fault;
}
