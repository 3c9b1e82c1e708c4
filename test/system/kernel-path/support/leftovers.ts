import { readFileSync } from 'node:fs';
import { messageOf } from '../../../../src/base/errors.js';
import { Bpf } from '../../../../src/kernel-path/bpf.js';
import { OBJECT_PREFIX } from '../../../../src/kernel-path/maps.js';
import type { Host } from '../../datapath/support/site.js';
import { until } from '../../datapath/support/until.js';

/** What is left in the kernel of kernel paths: the test fails when it does not go, and says what it is. */
export async function expectNoLeftovers(hosts: readonly Host[] = []): Promise<void> {
  const bpf = new Bpf();
  const objects = () => {
    const ours = ({ name }: { readonly name: string }) => name.startsWith(OBJECT_PREFIX);
    return { links: bpf.links().filter(ours), programs: bpf.programs().filter(ours), maps: bpf.maps().filter(ours) };
  };
  try {
    // the kernel lets go of maps a moment after the last program that used them
    await until('no links, programs and maps are left', () =>
      Object.values(objects()).every((list) => list.length === 0),
    );
  } catch (error) {
    throw new Error(`${messageOf(error)}: ${JSON.stringify(objects())}`);
  }
  // where programs were pinned for a filter
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n');
  const ours = mounts.filter((line) => line.includes('tweed-bpf-'));
  if (ours.length > 0) throw new Error(`a bpffs was left:\n${ours.join('\n')}`);
  for (const { namespace } of hosts) {
    const { stdout } = await namespace.run('tc', 'qdisc', 'show');
    if (/clsact/.test(stdout)) throw new Error(`a qdisc was left:\n${stdout}`);
    const { stdout: links } = await namespace.run('ip', '-brief', 'link', 'show');
    if (/^tweed\d+-in/m.test(links)) throw new Error(`a pair of devices for merging was left:\n${links}`);
  }
}
