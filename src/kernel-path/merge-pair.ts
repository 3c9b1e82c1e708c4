/**
 * The pair of veth devices in which the kernel merges what the programs have taken out of single datagrams.
 *
 * Theory of operation. From a network card datagrams come one by one, and GRO, which merges TCP segments before anything else
 * handles them, has had its turn when the program on the underlay takes the outer headers off: it knows nothing of this format.
 * A veth device has GRO of its own, for whatever is sent into its other end. So the program sends TCP into one end, and another
 * program takes it from the other (programs/merged.ts): one super-packet where there were up to 45 packets, for routes, bridge
 * and container alike.
 *
 * The kernel gives a veth device packets for GRO only where the sending end cannot segment (veth_skb_is_eligible_for_gro in
 * drivers/net/veth.c), so there TSO is off. That end would cut super-packets, which is why none is sent into it (programs/decap.ts).
 */
import { PROGRAM_LIMITS, parseJson } from '../base/json.js';
import { deviceState, setDeviceSwitch } from '../linux/ethtool.js';
import type { Device, Run } from './attachment.js';

export interface MergePair {
  /** Where single packets are sent into. */
  readonly into: Device;
  /** Where merged ones come in. */
  readonly out: Device;
}

/** What `ip -details` says of a link, as far as it tells. */
interface Link {
  readonly ifname?: string;
  readonly ifindex?: number;
  readonly link?: string;
  readonly linkinfo?: { readonly info_kind?: string };
}

/** The longest packet that there is: what is merged has to pass. */
const MTU = '65535';

/** Each network of a host has its own pair, as it has its own port. */
export function mergePairNames(port: number): { readonly into: string; readonly out: string } {
  return { into: `tweed${port}-in`, out: `tweed${port}-out` };
}

/** Reads and sets what devices do; a test scripts them. */
export interface Switches {
  get: typeof deviceState;
  set: typeof setDeviceSwitch;
}
const switches: Switches = { get: deviceState, set: setDeviceSwitch };

/**
 * Makes the pair, or takes the one that is there.
 *
 * @param queues of each device: as many as the underlay has, so that processors which share the packets of a card share the merging
 * @throws Error when the kernel cannot merge there or something else has the name; ExecError, SystemCallError. What it made is gone then
 */
export async function ensureMergePair(
  port: number,
  queues: number,
  run: Run,
  { get, set }: Switches = switches,
): Promise<MergePair> {
  const { into, out } = mergePairNames(port);
  const known = await find(into, run);
  if (known !== null && !isPair(known, out)) {
    throw new Error(`there is a device ${into} that is not tweed's; remove or rename it`);
  }
  const shape = ['numtxqueues', String(queues), 'numrxqueues', String(queues), 'mtu', MTU];
  if (known === null) await run(['ip', 'link', 'add', into, ...shape, 'type', 'veth', 'peer', out, ...shape]);
  try {
    // where veth devices know nothing of it they have the switch of all devices, which is on from the start
    const ignorant = known === null && get(out, 'gro');
    if (ignorant || set(into, 'tso', false) || !set(out, 'gro', true)) {
      throw new Error('veth devices of this kernel do not merge');
    }
    for (const end of [into, out]) {
      await run(['ip', 'link', 'set', end, 'addrgenmode', 'none'], true); // no address of IPv6, where there is any
      await run(['ip', 'link', 'set', end, 'up']);
    }
    return { into: await device(into, run), out: await device(out, run) };
  } catch (error) {
    if (known === null) await run(['ip', 'link', 'del', into], true);
    throw error;
  }
}

/** Whether the pair is as it was made. @throws SystemCallError when it is gone */
export function merges({ into, out }: MergePair, { get }: Switches = switches): boolean {
  return get(into.name, 'link') && !get(into.name, 'tso') && get(out.name, 'gro');
}

/** Removes the pair if it is there. @returns whether it did @throws ExecError */
export async function removeMergePair(port: number, run: Run): Promise<boolean> {
  const { into, out } = mergePairNames(port);
  const known = await find(into, run);
  if (known === null || !isPair(known, out)) return false;
  return (await run(['ip', 'link', 'del', into], true)).status === 0;
}

function isPair({ link, linkinfo }: Link, out: string): boolean {
  return linkinfo?.info_kind === 'veth' && link === out;
}

async function find(name: string, run: Run): Promise<Link | null> {
  const { status, stdout } = await run(['ip', '-json', '-details', 'link', 'show', 'dev', name], true);
  return status === 0 ? ((parseJson(stdout, PROGRAM_LIMITS) as Link[])[0] ?? null) : null;
}

async function device(name: string, run: Run): Promise<Device> {
  const index = (await find(name, run))?.ifindex;
  if (index === undefined) throw new Error(`${name} has gone again`);
  return { name, index };
}
