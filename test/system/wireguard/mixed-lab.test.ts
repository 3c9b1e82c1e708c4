/** An overlay in which one host is wireguard-go's, set up by what the leases say, and the others are tweed's. */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { useLab } from '../support/lab.js';

const GO_HOST = 'host2';
const daemon = fileURLToPath(new URL('support/wireguard-go-host.mjs', import.meta.url));
const presharedKey = Buffer.alloc(32, 7).toString('base64');

beforeAll(() => {
  process.env.WIREGUARD_GO_HOST = GO_HOST;
  return () => {
    delete process.env.WIREGUARD_GO_HOST;
  };
});

describe.each([
  ['all offloads', []],
  ['no offloads', ['tun-tso', 'tun-uso', 'udp-gso', 'udp-gro', 'udp-batch'].map((name) => `--${name}=off`)],
  ['two threads', ['--forwarder-threads=2']],
] as const)('with wireguard-go on one of three hosts, %s', (_name, daemonArgs) => {
  const lab = useLab({
    backend: 'wireguard',
    registry: 'directory',
    containers: 1,
    daemonCommand: [process.execPath, daemon],
    daemonArgs,
    networkConfig: { Backend: { PSK: presharedKey, ListenPort: 51_999 } },
  });

  it('the one host has wireguard-go, the others have not', async () => {
    const devices = async (host: string) => (await lab().exec(host, ['ip', '-brief', 'link', 'show'])).stdout;
    expect(await devices(GO_HOST)).toMatch(/^wgo\d+ /m);
    expect(await devices(GO_HOST)).not.toContain('flannel-wg');
    expect(await devices('host1')).toMatch(/^flannel-wg /m);
  });

  it('every kind of traffic passes between all of them, many times over', async () => {
    for (const transferBytes of [300_000, 20_000_000]) {
      const result = await lab().test({ transferBytes });
      expect(result.ok, formatMatrix(result)).toBe(true);
    }
  });
});
