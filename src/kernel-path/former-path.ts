/**
 * Programs that go on while no process runs.
 *
 * Theory of operation. A program hangs on its device by a link, and the link lives as long as anybody has a descriptor of it. A
 * service manager's store has one, so that the links, with them the programs, and with those the maps live on when the daemon
 * ends, however it ends. The next process finds them among what it inherits. It leaves them where they are until its own
 * programs hang behind them and know the peers; then it takes them off, so that at no moment none is there.
 *
 * What cannot be right any more goes at once: programs have the addresses, the port and the networks of their time built in. The
 * name that a link is kept by says which.
 *
 * A filter of tc, where the kernel has no such links, outlives a process that is killed by itself. The next process's take its place;
 * where it has none, `removeFormerFilters` does.
 */
import { formatIpv4, formatPrefix, type Prefix } from '../base/ipv4.js';
import type { Inheritance } from '../linux/inheritance.js';
import type { Run } from './attachment.js';

/** What programs are made for, besides the device. Addresses in host order. */
export interface PathPlace {
  readonly underlay: { readonly index: number; readonly address: number };
  readonly network: Prefix;
  readonly subnet: Prefix;
  readonly port: number;
}

const FAMILY = 'kernel-path,';

/** What all links of a place are called up to the link's own number. No colon: it parts names from each other. */
function nameOf({ underlay: { index, address }, network, subnet, port }: PathPlace): string {
  return `${FAMILY}${[index, formatIpv4(address), port, formatPrefix(network), formatPrefix(subnet)].join()},`;
}

/** The name by which a link is kept. Another link has another one, for the kernel gives each its own number. */
export function holdName(place: PathPlace, id: number): string {
  return `${nameOf(place)}${id}`;
}

export function isOfPlace(name: string, place: PathPlace): boolean {
  const start = nameOf(place);
  return name.startsWith(start) && /^\d{1,10}$/.test(name.slice(start.length));
}

interface Link {
  readonly name: string;
  readonly descriptor: number;
}

/** Takes links off their devices, also where others have them too, and closes them. */
export type TakeOff = (descriptors: readonly number[]) => Promise<void>;
const takeOff: TakeOff = async (descriptors) => {
  const { Bpf } = await import('./bpf.js'); // most processes inherit none
  const bpf = new Bpf();
  for (const descriptor of descriptors) {
    try {
      bpf.takeOff(descriptor);
    } catch {
      // it is closed all the same, and goes when the store lets go of it
    }
  }
};

/** What a former process left of its kernel path. Owns its links. */
export class FormerPath {
  #links: readonly Link[];
  readonly #takeOff: TakeOff;

  private constructor(links: readonly Link[], takesOff: TakeOff) {
    this.#links = links;
    this.#takeOff = takesOff;
  }

  /**
   * What of it belongs there. The rest goes at once.
   *
   * @param place null when nothing belongs there
   * @param note what became of it, in words
   */
  static async inherit(
    inherited: Inheritance,
    place: PathPlace | null,
    note: (text: string) => void,
    takesOff: TakeOff = takeOff,
  ): Promise<FormerPath> {
    const links = [...inherited.takeAll(FAMILY)].map(([name, descriptor]) => ({ name, descriptor }));
    const belongs = ({ name }: Link) => place !== null && isOfPlace(name, place);
    const unfit = new FormerPath(
      links.filter((link) => !belongs(link)),
      takesOff,
    );
    if (!unfit.#empty) note('the kernel path that was left does not fit, and is taken off');
    await unfit.end();
    const fit = new FormerPath(links.filter(belongs), takesOff);
    if (!fit.#empty) note('the kernel path that was left goes on until this process has its own');
    return fit;
  }

  get #empty(): boolean {
    return this.#links.length === 0;
  }

  /** It goes: there are own programs in its place, or are to be none. */
  async end(): Promise<void> {
    const links = this.#links;
    this.#links = [];
    if (links.length > 0) await this.#takeOff(links.map(({ descriptor }) => descriptor));
  }
}

/** Takes filters of a former process off where this one has no programs that take their place. @throws ExecError */
export async function removeFormerFilters(
  { underlay, tun, port }: { readonly underlay: Named; readonly tun: Named; readonly port: number },
  run: Run,
): Promise<void> {
  const { stdout } = await run(['tc', 'qdisc', 'show'], true);
  if (!/^qdisc clsact /m.test(stdout)) return;
  // few hosts have any
  const { detachFormer, detachFormerEverywhere } = await import('./attachment.js');
  const { DELIVER_PROGRAM } = await import('./programs/deliver.js');
  await detachFormer(underlay, 'ingress', run, port);
  await detachFormer(tun, 'egress', run, port);
  await detachFormerEverywhere(DELIVER_PROGRAM, run, port);
}

interface Named {
  readonly name: string;
}
