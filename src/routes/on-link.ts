import { type Address, formatAddress, parseAddress } from '../base/address.js';
import { type IpTool, parseIpJson, type RouteJson } from './ip.js';

/** How this host would send a packet to an address; a text says why it cannot. */
export type Reach = string | { readonly device: string; readonly gateway: string; readonly local: boolean };

/** Asks the kernel about many addresses of either family in one process. */
export async function readReach(addresses: readonly Address[], ip: IpTool): Promise<ReadonlyMap<Address, Reach>> {
  const lines = addresses.map((address) => `route get ${formatAddress(address)}`);
  const { stdout, failures } = await ip.batchAll(lines, '-json');
  const found = new Map<Address, Reach>(parseReach(stdout));
  for (const { line, error } of failures) {
    const address = parseAddress(line.slice(line.lastIndexOf(' ') + 1));
    if (address !== null) found.set(address, error.replace(/^RTNETLINK answers: /, ''));
  }
  return found;
}

/** `ip -json -batch` prints one JSON array for each question, each on a line of its own. */
export function parseReach(text: string): readonly (readonly [Address, Reach])[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('['))
    .flatMap((line) => parseIpJson(line) as RouteJson[])
    .flatMap((route) => {
      const address = parseAddress(route.dst);
      const { dev = '', gateway = '', type } = route;
      return address === null ? [] : [[address, { device: dev, gateway, local: type === 'local' }] as const];
    });
}

/** Why the address is not on the link of that device; empty when it is. */
export function offLinkReason(reach: Reach | undefined, address: Address, device: string): string {
  const text = formatAddress(address);
  if (reach === undefined) return `the kernel does not say how to reach ${text}`;
  if (typeof reach === 'string') return `${text} cannot be reached (${reach})`;
  if (reach.local) return `${text} is an address of this host`;
  if (reach.device !== device) return `${text} is reached through ${reach.device}, not ${device}`;
  if (reach.gateway !== '') return `${text} is behind the router ${reach.gateway}, not on the link of ${device}`;
  return '';
}
