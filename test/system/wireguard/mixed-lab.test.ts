/** An overlay in which one host is wireguard-go's, set up by what the leases say, and the others are tweed's. */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { daemonStatus } from '../../../src/lab/daemon.js';
import type { Lab } from '../../../src/lab/lab.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import type { LabOptions } from '../../../src/lab/options.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';

const GO_HOST = 'host2';
const daemon = fileURLToPath(new URL('support/wireguard-go-host.mjs', import.meta.url));
const presharedKey = Buffer.alloc(32, 7).toString('base64');

const devices = async (lab: Lab, host: string) => (await lab.exec(host, ['ip', '-brief', 'link', 'show'])).stdout;
const goDevice = async (lab: Lab) => /^wgo\d+/m.exec(await devices(lab, GO_HOST))?.[0] ?? '';

beforeAll(() => {
  process.env.WIREGUARD_GO_HOST = GO_HOST;
  return () => {
    delete process.env.WIREGUARD_GO_HOST;
  };
});

type Row = readonly [
  name: string,
  daemonArgs: readonly string[],
  families?: Partial<Pick<LabOptions, 'ipFamilies' | 'underlayFamily'>>,
  backend?: Readonly<Record<string, string>>,
];

describe.each([
  ['all offloads', []],
  ['no offloads', ['tun-tso', 'tun-uso', 'udp-gso', 'udp-gro', 'udp-batch'].map((name) => `--${name}=off`)],
  ['two threads', ['--forwarder-threads=2']],
  // a device for both families, whose datagrams travel by IPv6
  ['both families by IPv6', [], { ipFamilies: 'dual', underlayFamily: 'dual' }, { Mode: 'ipv6' }],
] satisfies readonly Row[])('with wireguard-go on one of three hosts, %s', (...row) => {
  const [, daemonArgs, families, backend]: Row = row;
  const lab = useLab({
    backend: 'wireguard',
    registry: 'directory',
    containers: 1,
    daemonCommand: [process.execPath, daemon],
    daemonArgs,
    ...families,
    networkConfig: { Backend: { PSK: presharedKey, ListenPort: 51_999, ...backend } },
  });

  it('the one host has wireguard-go, the others have not', async () => {
    expect(await goDevice(lab())).toMatch(/^wgo\d+$/);
    expect(await devices(lab(), GO_HOST)).not.toContain('flannel-wg');
    expect(await devices(lab(), 'host1')).toMatch(/^flannel-wg /m);
  });

  it('all of them come to know each other', async () => {
    await waitFor('wireguard-go to have its peers', async () => {
      const { stdout } = await lab().exec(GO_HOST, ['wg', 'show', await goDevice(lab()), 'peers']);
      return stdout.trim().split('\n').length === 2;
    });
    for (const host of ['host1', 'host3']) {
      const peers = async () => (await daemonStatus(lab().files, host))?.backend?.peers ?? [];
      await waitFor(`${host} to know the others`, async () => (await peers()).length === 2);
    }
  });

  it('every kind of traffic passes between all of them, many times over', async () => {
    // all pairs at once only with little: a receive buffer of wireguard-go's overflows under four streams, and takes a
    // ping of another pair along
    for (const [transferBytes, atOnce] of [
      [1_000, 6],
      [300_000, 1],
      [20_000_000, 1],
    ]) {
      const result = await lab().test({ transferBytes, atOnce });
      expect(result.ok, formatMatrix(result)).toBe(true);
    }
  });
});
