import { parseAddress } from '../base/address.js';
import { readTextFile } from '../base/text-file.js';

/** Names of hosts by their addresses. Only those that this host keeps itself: nobody waits for a name server. */
export type HostNames = ReadonlyMap<string, string>;

/** The first name of each address, as hosts(5) has them. */
export function parseHosts(text: string): HostNames {
  const names = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [address = '', name] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (name !== undefined && parseAddress(address) !== null && !names.has(address)) names.set(address, name);
  }
  return names;
}

/** Empty when there is no such file. */
export async function readHostNames(file = '/etc/hosts'): Promise<HostNames> {
  return readTextFile(file).then(parseHosts, () => new Map());
}
