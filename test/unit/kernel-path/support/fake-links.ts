/** A host's links as `ip` shows, makes, sets and removes them; and the switches of a device that the kernel has besides. */
import type { Run } from '../../../../src/kernel-path/attachment.js';
import type { DeviceState, DeviceSwitch } from '../../../../src/linux/ethtool.js';

export interface FakeLink {
  readonly ifindex: number;
  readonly kind: string;
  /** Name of the other end of a veth in the same namespace. */
  readonly peer?: string;
  up?: boolean;
  /** Switches that are no longer as a new device has them. */
  readonly turned: Map<DeviceState, boolean>;
}

export class FakeLinks {
  readonly links = new Map<string, FakeLink>();
  /** All that was done, in order. */
  readonly log: string[] = [];
  /** Commands that begin with one of these fail. */
  fails: readonly string[] = [];
  /** GRO of a new device is on, as where veth devices know nothing of it. */
  ignorant = false;
  /** What a switch is when it has been set; an error is thrown. */
  answer: (name: string, what: DeviceSwitch, on: boolean) => boolean = (_name, _what, on) => on;
  #next = 11;

  add(name: string, kind: string, peer?: string): void {
    this.links.set(name, { ifindex: this.#next++, kind, turned: new Map(), ...(peer === undefined ? {} : { peer }) });
  }

  /** @param names of both ends */
  addPair(...names: readonly [string, string]): void {
    this.add(names[0], 'veth', names[1]);
    this.add(names[1], 'veth', names[0]);
  }

  readonly run: Run = async (argv, tolerate = false) => {
    const line = argv.join(' ');
    this.log.push(line);
    const failed = this.fails.some((start) => line.startsWith(start));
    const result = failed ? { status: 2, stdout: '', stderr: 'refused' } : this.#answer(argv, line);
    if (result.status !== 0 && !tolerate) throw new Error(`${line}: ${result.stderr}`);
    return result;
  };

  readonly switches = {
    get: (name: string, what: DeviceState): boolean => {
      this.log.push(`${what} of ${name}?`);
      const link = this.links.get(name);
      if (what === 'link') return link?.up === true && this.links.get(link.peer ?? '')?.up === true;
      return link?.turned.get(what) ?? (what === 'tso' || this.ignorant);
    },
    set: (name: string, what: DeviceSwitch, on: boolean): boolean => {
      this.log.push(`${what} of ${name} ${on ? 'on' : 'off'}`);
      const inForce = this.answer(name, what, on);
      this.links.get(name)?.turned.set(what, inForce);
      return inForce;
    },
  };

  #answer(argv: readonly string[], line: string) {
    const ok = { status: 0, stdout: '', stderr: '' };
    if (argv[0] !== 'ip') return ok;
    const missing = { status: 1, stdout: '', stderr: 'Cannot find device' };
    if (line.startsWith('ip -json -details link show dev ')) {
      const name = argv.at(-1) as string;
      const link = this.links.get(name);
      return link === undefined ? missing : { ...ok, stdout: JSON.stringify([shown(name, link)]) };
    }
    const [, , verb, name = ''] = argv;
    if (verb === 'add') {
      const peer = argv[argv.indexOf('peer') + 1] as string;
      if (this.links.has(name) || this.links.has(peer)) return { ...ok, status: 2, stderr: 'File exists' };
      this.addPair(name, peer);
      return ok;
    }
    const link = this.links.get(name);
    if (link === undefined) return missing;
    if (verb === 'del') {
      this.links.delete(name);
      if (link.peer !== undefined) this.links.delete(link.peer);
    } else if (argv.at(-1) === 'up') link.up = true;
    return ok;
  }
}

/** As iproute2 prints it, `link_type` of an Ethernet device. */
function shown(name: string, { ifindex, kind, peer }: FakeLink) {
  return {
    ifindex,
    ifname: name,
    ...(peer === undefined ? {} : { link: peer }),
    link_type: 'ether',
    ...(kind === '' ? {} : { linkinfo: { info_kind: kind } }),
  };
}
