/**
 * What becomes of packets on the underlay: whether they leave this machine finished.
 *
 * A network card completes checksums and cuts super-packets. A device of software (veth, a bridge, macvlan) and the cards
 * that machines on one host see (virtio, Xen, Hyper-V) hand both over undone to whoever is at the other end.
 */
import { PROGRAM_LIMITS, parseJson } from '../base/json.js';
import type { Run } from './attachment.js';

export interface LinkFacts {
  readonly ethernet: boolean;
  /** What leaves by it has its checksums and segments done, and what comes by it had them done by another card. */
  readonly finishesPackets: boolean;
  /** What `ip` calls its type. */
  readonly linkType: string;
  /** Queues that packets come in by, at least 1; a device of software has none that are told from each other. */
  readonly queues: number;
}

/** Buses of real cards, as `ip -details` names them. */
const HARDWARE = new Set(['pci', 'usb', 'platform', 'sdio', 'mdio']);

/** What `ip -json -details` prints of a link, as far as it tells. */
export interface LinkDetails {
  readonly link_type?: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly parentbus?: string;
  readonly num_rx_queues?: number;
}

/** @throws ExecError when there is no such device, JsonError */
export async function readLinkFacts(name: string, run: Run): Promise<LinkFacts> {
  const { stdout } = await run(['ip', '-json', '-details', 'link', 'show', 'dev', name]);
  const [link] = parseJson(stdout, PROGRAM_LIMITS) as LinkDetails[];
  return linkFacts(link);
}

export function linkFacts(link: LinkDetails | undefined): LinkFacts {
  return {
    ethernet: link?.link_type === 'ether',
    finishesPackets: link?.linkinfo?.info_kind === undefined && HARDWARE.has(link?.parentbus ?? ''),
    linkType: link?.link_type ?? 'nothing',
    queues: link?.linkinfo?.info_kind === undefined ? link?.num_rx_queues || 1 : 1,
  };
}
