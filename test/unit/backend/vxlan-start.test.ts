import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { kernelThrough } from '../../../src/backend/kernel/kernel.js';
import { VxlanBackend } from '../../../src/backend/vxlan/vxlan-backend.js';
import type { Run } from '../../../src/routes/ip.js';
import { contextOf, leaseOf, peerSet } from './support.js';

const own = '02:00:00:00:00:01';
const device = {
  ifindex: 4,
  ifname: 'flannel.1',
  flags: ['UP'],
  mtu: 1450,
  address: own,
  linkinfo: {
    info_kind: 'vxlan',
    info_data: { id: 1, local: '192.0.2.1', link: 'eth0', port: 8472, learning: false },
  },
  addr_info: [{ family: 'inet', local: '10.5.1.0', prefixlen: 32, scope: 'global' }],
};
const data = (mac: string) => ({ backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: mac } });
const lease = leaseOf('10.5.1.0/24', '192.0.2.1', data(own));
const peer = leaseOf('10.5.2.0/24', '192.0.2.2', data('02:00:00:00:00:02'));

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tweed-vxlan-'));
});
afterEach(() => rm(directory, { recursive: true }));

/** A host whose device is right, with what an earlier run knew of 10.5.3.0/24. */
function host() {
  const commands: string[] = [];
  const answers: readonly [RegExp, unknown][] = [
    [/address show/, [device]],
    [/route show/, [{ dst: '10.5.3.0/24', gateway: '10.5.3.0', dev: 'flannel.1', protocol: '84', flags: ['onlink'] }]],
    [/neigh show/, [{ dst: '10.5.3.0', lladdr: '02:00:00:00:00:03' }]],
    [/fdb show/, [{ mac: '02:00:00:00:00:03', dst: '192.0.2.3', state: 'permanent' }]],
  ];
  const run: Run = async (argv, { input = '' } = {}) => {
    commands.push(...input.split('\n').filter(Boolean));
    const found = answers.find(([pattern]) => pattern.test(argv.join(' ')));
    return { status: 0, stdout: JSON.stringify(found?.[1] ?? []), stderr: '' };
  };
  return { commands, backend: new VxlanBackend(contextOf({ Type: 'vxlan' }), directory, kernelThrough(run)) };
}

const added = [
  'fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self permanent',
  'neigh replace 10.5.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent',
  'route add 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink proto 84',
];

describe('vxlan', () => {
  it('is told its peers at the start, and makes the route to one when all it needs is there', async () => {
    const { commands, backend } = host();
    await backend.start(lease, peerSet([peer], false));
    expect(commands).toEqual(added);
    expect(backend.status()).toMatchObject({ peers: [{ subnet: '10.5.2.0/24' }], refused: [] });
  });

  it('takes nothing for left over until all peers are known', async () => {
    const { commands, backend } = host();
    await backend.start(lease, peerSet([peer]));
    expect(commands.filter((command) => !added.includes(command))).toEqual([
      'fdb del 02:00:00:00:00:03 dev flannel.1 self',
      'route del 10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 84',
      'neigh del 10.5.3.0 dev flannel.1',
    ]);
  });

  it('lists in its status whom it cannot send to', async () => {
    const { backend } = host();
    const twin = leaseOf('10.5.4.0/24', '192.0.2.4', data(own));
    await backend.start(lease, peerSet([twin, peer], false));
    expect(backend.status().refused).toEqual([
      { subnet: '10.5.4.0/24', publicIp: '192.0.2.4', reason: expect.stringContaining('VtepMAC is this host’s own') },
    ]);
  });
});
