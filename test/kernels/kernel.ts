/** The kernel that these tests run on: what scripts/test-kernels.mjs told the guest of it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface TestedKernel {
  /** Its branch, such as `6.1`, and what is particular about the machine. */
  readonly name: string;
  /** What is in force there; a difference is a failure, in whichever direction. */
  readonly expected: {
    /** These two as the status of the udp backend has them. */
    readonly tun_uso: string;
    readonly merge_udp: string;
    /** The most datagrams that one segmented send takes. */
    readonly segmentsPerSend: number;
    /** Whether a segmented send that crosses a veth device arrives coalesced. */
    readonly coalescing: string;
  };
}

export function testedKernel(): TestedKernel {
  const path = fileURLToPath(new URL('kernels.json', import.meta.url));
  const kernels = JSON.parse(readFileSync(path, 'utf8')) as TestedKernel[];
  const kernel = kernels.find(({ name }) => name === process.env.TWEED_KERNEL);
  if (kernel === undefined) throw new Error('these tests run in a guest; start them by `npm run test:kernels`');
  return kernel;
}
