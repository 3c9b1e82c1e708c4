/** The VXLAN device: what it is to be, what it is, and how the one becomes the other. */

import { type Address, familyOf, formatAddress } from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { ExecError } from '../../base/exec.js';
import { applyChanges, type Change } from '../../routes/changes.js';
import type { IpTool } from '../../routes/ip.js';
import { type LinkState, linkChanges, readLink, type WantedDevice } from '../../routes/links.js';
import type { Kernel } from '../kernel/kernel.js';
import { parseMac } from './mac.js';

/** What the device is to be. */
export interface WantedVtep extends WantedDevice {
  readonly vni: number;
  /** Name of the interface that carries its datagrams. */
  readonly underlay: string;
  /** Their source. */
  readonly local: Address;
  readonly port: number;
  readonly gbp: boolean;
  readonly learning: boolean;
  readonly mac: string;
}

export class VtepError extends TweedError {
  constructor(message: string, options?: ErrorOptions) {
    super('VXLAN_DEVICE', message, options);
  }
}

/** Why the present device cannot become the wanted one, in words; empty when it can, or is it already. */
export function incompatibility({ data }: LinkState, wanted: Omit<WantedVtep, 'mac' | 'addresses'>): string {
  const differences: [string, unknown, unknown][] = [
    ['VNI', data.id, wanted.vni],
    ['interface', data.link, wanted.underlay],
    ['local address', data.local ?? data.local6, formatAddress(wanted.local)],
    ['port', data.port, wanted.port],
    ['GBP', data.gbp ?? false, wanted.gbp],
    ['multicast group', data.group ?? data.group6, undefined],
    ['l2miss', data.l2miss ?? false, false],
    ['external', data.external ?? false, false],
  ];
  return differences
    .filter(([, is, shall]) => is !== shall)
    .map(([what, is, shall]) => `its ${what} is ${is ?? 'none'} instead of ${shall ?? 'none'}`)
    .join(', ');
}

/**
 * Words for `ip` that make the device. The MAC is given with the device, not afterwards: systemd-udevd leaves an address
 * alone that was there from the beginning, whatever its MACAddressPolicy.
 */
export function creation({ name, vni, underlay, local, port, gbp, learning, mac }: WantedVtep): readonly string[] {
  return [
    ...['link', 'add', name, 'address', mac, 'type', 'vxlan', 'id', String(vni), 'dev', underlay],
    ...['local', formatAddress(local), 'dstport', String(port), learning ? 'learning' : 'nolearning'],
    ...(gbp ? ['gbp'] : []),
  ];
}

/** What makes a compatible device the wanted one. */
export function vtepChanges(wanted: WantedVtep, state: LinkState): readonly Change[] {
  const { name, mac, learning } = wanted;
  const changes: Change[] = [];
  if ((state.data.learning ?? true) !== learning) {
    changes.push({
      subject: name,
      command: `link set dev ${name} type vxlan ${learning ? 'learning' : 'nolearning'}`,
      text: `turned learning of ${name} ${learning ? 'on' : 'off'}`,
    });
  }
  if (parseMac(state.hardwareAddress) !== mac) {
    changes.push({
      subject: name,
      command: `link set dev ${name} address ${mac}`,
      text: `gave ${name} its MAC address ${mac} again, which was ${state.hardwareAddress}`,
    });
  }
  return [...changes, ...linkChanges(wanted, state)];
}

/**
 * Makes the device what it is to be, from whatever is there.
 *
 * @returns whether it is a new device, without peers, and one line of text for each change
 * @throws VtepError
 */
export async function ensureVtep(
  wanted: WantedVtep,
  { ip, setSwitch }: Pick<Kernel, 'ip' | 'setSwitch'>,
): Promise<{ readonly made: boolean; readonly done: readonly string[] }> {
  const { name } = wanted;
  const done: string[] = [];
  let state = await readLink(name, ip);
  if (state !== null) {
    if (state.kind !== 'vxlan') {
      throw new VtepError(`${name} is there, but no VXLAN device; remove it with: ip link del ${name}`);
    }
    const reason = incompatibility(state, wanted);
    if (reason !== '') {
      await ip.run('link', 'del', name);
      done.push(`removed the former ${name}: ${reason}`);
      state = null;
    }
  }
  const made = state === null;
  if (state === null) {
    await makeVtep(wanted, ip);
    done.push(`made ${name}`);
    if (familyOf(wanted.local) === 6) {
      // A router's advertisement through the tunnel could only come from somebody who has no business with routes here.
      await setSwitch(`net/ipv6/conf/${name}/accept_ra`, '0');
      await setSwitch(`net/ipv6/conf/${name}/disable_ipv6`, '0'); // whatever is usual for new devices
    }
    state = await readLink(name, ip);
  }
  // Looked at again after it came up, since a link manager may have changed the MAC just then.
  for (let round = 0; round < 2; round++) {
    if (state === null) throw new VtepError(`${name} was removed while it was set up; start again`);
    const changes = vtepChanges(wanted, state);
    if (changes.length === 0) break;
    const { done: texts, failed } = await applyChanges(changes, ip);
    if (failed.size > 0) throw setUpError(wanted, [...failed.values()].join('; '));
    if (!made || round > 0) done.push(...texts); // what making it takes is not worth a line each
    state = await readLink(name, ip);
  }
  return { made, done };
}

async function makeVtep(wanted: WantedVtep, ip: IpTool): Promise<void> {
  try {
    await ip.run(...creation(wanted));
  } catch (thrown) {
    if (!(thrown instanceof ExecError)) throw thrown;
    throw setUpError(wanted, thrown.result?.stderr.trim() || thrown.message, { cause: thrown });
  }
}

function setUpError({ name, vni, port, underlay }: WantedVtep, reason: string, options?: ErrorOptions): VtepError {
  const detail = reason.replace(/^Error: /, '').replace(/\.$/, '');
  const advice = /VNI already exists/.test(detail)
    ? `find the other device with VNI ${vni} by "ip -details link show type vxlan", and remove it or choose another Backend.VNI`
    : /Address already in use/.test(detail)
      ? `another program holds UDP port ${port}; end it or choose another Backend.Port`
      : /Unknown device type|not supported/.test(detail)
        ? 'load the kernel module: modprobe vxlan'
        : /Permission denied/.test(detail)
          ? `IPv6 may be disabled: sysctl net.ipv6.conf.${name}.disable_ipv6; and this needs CAP_NET_ADMIN`
          : `look at "ip -details link show dev ${underlay}"`;
  return new VtepError(`${name} could not be set up: ${detail}; ${advice}`, options);
}
