import { statSync } from 'node:fs';

/** The number of this process's network namespace, which no other one has while it lives; 0 where there is no /proc. */
export function networkNamespace(): number {
  try {
    return statSync('/proc/self/ns/net').ino;
  } catch {
    return 0;
  }
}
