/** `1 peer`, `2 peers`, `0 peers`: a number with a noun that takes an s. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
