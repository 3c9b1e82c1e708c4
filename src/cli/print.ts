import { printableJson, printableLines } from '../base/printable.js';

/** Writes a command's result for people; nothing in it that came from outside can command their terminal. */
export function printText(text: string): void {
  process.stdout.write(printableLines(text));
}

/** Writes a command's result for programs. @param indent 0: on one line */
export function printJson(value: unknown, indent = 2): void {
  process.stdout.write(`${printableJson(value, indent)}\n`);
}
