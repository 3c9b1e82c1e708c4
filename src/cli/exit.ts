import { messageOf } from '../base/errors.js';
import { printableLines } from '../base/printable.js';
import { isUnforeseen } from '../base/unforeseen.js';
import { OptionError } from './flags.js';
import { outputFault } from './print.js';

/** What tweed's commands end with. docs/operations.md lists them. */
export const exitCodes = {
  done: 0,
  /** It did not work; one line on standard error says why. */
  failed: 1,
  /** The command line or the environment cannot be used. */
  usage: 2,
} as const;

/**
 * Runs a command and ends the process with its status: one line for an error of ours or of the system, such as too many
 * open files; a stack only for one that nobody foresaw, which is a bug.
 */
export async function endWith(program: string, command: () => Promise<number>): Promise<never> {
  let status: number;
  try {
    status = await command();
  } catch (error) {
    status = error instanceof OptionError ? exitCodes.usage : exitCodes.failed;
    process.stderr.write(errorLine(program, error));
  }
  const fault = await outputFault();
  if (fault !== null) {
    const what = `standard output: ${messageOf(fault)}; what was printed is not complete, so make room and repeat it`;
    process.stderr.write(`${program}: ${what}\n`);
    status ||= exitCodes.failed;
  }
  process.exit(status);
}

/** What a command says when it fails. */
export function errorLine(program: string, error: unknown): string {
  return `${program}: ${printableLines(isUnforeseen(error) ? describeBug(error) : messageOf(error))}\n`;
}

function describeBug(error: unknown): string {
  return (error instanceof Error && error.stack) || messageOf(error);
}
