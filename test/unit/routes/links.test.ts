import { describe, expect, it } from 'vitest';
import { type AnyPrefix, hostPrefix, parseAddress } from '../../../src/base/address.js';
import { type Prefix, parsePrefix } from '../../../src/base/ipv4.js';
import { ipTool, type LinkJson, parseBatchErrors, type RouteJson, type Run } from '../../../src/routes/ip.js';
import { ensureLink, type LinkState, linkChanges, linkState, type WantedLink } from '../../../src/routes/links.js';
import { installedRoute } from '../../../src/routes/route-table.js';

const prefix = (text: string) => parsePrefix(text) as Prefix;
const network = prefix('10.5.0.0/16');
const former = prefix('10.9.0.0/16');

const wanted: WantedLink = {
  name: 'flannel0',
  mtu: 1472,
  txQueueLength: 1000,
  addresses: [prefix('10.5.8.0/32')],
  networks: [network, former],
  routes: [{ destination: network }],
};

const right: LinkState = {
  name: 'flannel0',
  index: 7,
  up: true,
  mtu: 1472,
  txQueueLength: 1000,
  kind: 'tun',
  data: {},
  hardwareAddress: '',
  addresses: [prefix('10.5.8.0/32')],
};

const rightRoutes: readonly RouteJson[] = [{ dst: '10.5.0.0/16', dev: 'flannel0', protocol: 'boot', scope: 'link' }];
const printed: LinkJson = {
  ifindex: 7,
  ifname: 'flannel0',
  flags: ['POINTOPOINT', 'NOARP', 'UP'],
  mtu: 1472,
  txqlen: 1000,
  linkinfo: { info_kind: 'tun' },
  addr_info: [
    { family: 'inet', local: '10.5.8.0', prefixlen: 32, scope: 'global' },
    { family: 'inet6', local: 'fe80::1', prefixlen: 64, scope: 'link' },
  ],
};

/** The commands that `ensureLink` runs on a host with this link and these routes of the main table. */
async function commands(link: Partial<LinkJson>, routes: readonly RouteJson[] = rightRoutes): Promise<string[]> {
  let batch = '';
  const run: Run = async (argv, { input = '' } = {}) => {
    batch += input;
    const words = argv.join(' ');
    const shown = words.includes('address') ? [{ ...printed, ...link }] : words.includes('10.5.0.0/16') ? routes : [];
    return { status: 0, stdout: argv.includes('-json') ? JSON.stringify(shown) : '', stderr: '' };
  };
  await ensureLink(wanted, ipTool(run));
  return batch.split('\n').filter(Boolean);
}
const inet = (...texts: string[]): Pick<LinkJson, 'addr_info'> => ({
  addr_info: texts.map((text) => {
    const [local = '', length] = text.split('/');
    return { family: 'inet', local, prefixlen: Number(length), scope: 'global' };
  }),
});

describe('a link', () => {
  it('that is right needs nothing', async () => {
    expect(await commands({})).toEqual([]);
    expect(linkChanges(wanted, right)).toEqual([]);
  });

  it('that is bare gets everything, the route last', async () => {
    expect(await commands({ flags: [], mtu: 1500, txqlen: 500, addr_info: [] }, [])).toEqual([
      'link set dev flannel0 mtu 1472',
      'link set dev flannel0 txqueuelen 1000',
      'address add 10.5.8.0/32 scope global dev flannel0',
      'link set dev flannel0 up',
      'route add 10.5.0.0/16 dev flannel0',
    ]);
  });

  it('loses addresses of former subnets, and keeps those of others', async () => {
    expect(await commands(inet('10.5.8.0/32', '10.5.3.0/32', '10.9.4.0/32', '169.254.1.1/16'))).toEqual([
      'address del 10.5.3.0/32 dev flannel0',
      'address del 10.9.4.0/32 dev flannel0',
    ]);
  });

  it('loses routes into its networks, and keeps those of others', async () => {
    const routes = [
      { dst: '10.5.3.0/24', dev: 'flannel0', gateway: '10.5.3.0', flags: ['onlink'], metric: 5 },
      { dst: '10.5.8.0/24', dev: 'flannel0', protocol: 'kernel' },
      { dst: '10.5.4.0/24', dev: 'eth0' },
    ];
    expect(await commands({}, [...rightRoutes, ...routes])).toEqual([
      'route del 10.5.3.0/24 via 10.5.3.0 dev flannel0 proto boot metric 5',
    ]);
  });

  it('has its route corrected, but never takes one from another device', async () => {
    expect(await commands({}, [{ dst: '10.5.0.0/16', dev: 'flannel0', gateway: '10.5.0.1' }])).toEqual([
      'route replace 10.5.0.0/16 dev flannel0',
    ]);
    await expect(commands({}, [{ dst: '10.5.0.0/16', dev: 'eth7' }])).rejects.toThrow(
      /^flannel0 could not be set up: 10\.5\.0\.0\/16: a route through eth7 is there already; remove it$/,
    );
  });

  it.each(['kernel', 'dhcp'])(
    'advises nobody to take away the route of %s by which the host is connected',
    async (protocol) => {
      await expect(commands({}, [{ dst: '10.5.0.0/16', dev: 'eth0', protocol }])).rejects.toThrow(
        /a route through eth0 is there already; this host is connected by it: choose another network \("tweed network set"\)$/,
      );
    },
  );

  it('is read from ip -json', () => {
    const linkLocal = { ...hostPrefix(parseAddress('fe80::1') ?? 0n), length: 64 } as AnyPrefix;
    expect(linkState(printed)).toEqual({ ...right, addresses: [...right.addresses, linkLocal] });
  });
});

describe('routes', () => {
  it('of several next hops are nobody’s business here', () => {
    expect(installedRoute({ dst: '10.5.0.0/16', nexthops: [{ dev: 'a' }, { dev: 'b' }] })).toEqual([]);
    expect(installedRoute({ dst: 'default', gateway: '192.0.2.1', dev: 'eth0' })).toMatchObject([
      { destination: { address: 0, length: 0 }, device: 'eth0' },
    ]);
  });
});

describe('a batch', () => {
  it('tells which lines were refused, and why', () => {
    const stderr =
      'RTNETLINK answers: File exists\nCommand failed -:2\nError: Nexthop has invalid gateway.\nCommand failed -:3\n';
    expect(parseBatchErrors(stderr, ['a', 'b', 'c'])).toEqual([
      { line: 'b', error: 'RTNETLINK answers: File exists' },
      { line: 'c', error: 'Error: Nexthop has invalid gateway.' },
    ]);
    expect(parseBatchErrors('', ['a'])).toEqual([]);
  });
});
