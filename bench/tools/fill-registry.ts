/**
 * Writes the leases of many hosts to etcd, as fast as it takes them, and prints as JSON when it began (milliseconds
 * since the epoch) and how many seconds it took.
 *
 * Usage: fill-registry reset|fill ENDPOINT COUNT [dual]. `reset` empties the network and writes its configuration; with
 * `dual` the hosts have both families.
 */
import { Etcd3 } from 'etcd3';
import { parseIpv4 } from '../../src/base/ipv4.js';
import { parseIpv6 } from '../../src/base/ipv6.js';
import { encodeLeaseValue, formatSubnetKey } from '../../src/subnet/keys.js';

const PREFIX = '/coreos.com/network';
/** etcd takes at most 128 operations in a transaction. */
const BATCH = 100;

const [task, endpoint, count, families] = process.argv.slice(2);
const dual = families === 'dual';
const client = new Etcd3({ hosts: endpoint ?? '' });
const first = parseIpv4('10.0.0.0') as number;
const firstHost = parseIpv4('172.16.0.1') as number;
const firstV6 = parseIpv6('fd00:5::') as bigint;
const firstHostV6 = parseIpv6('2001:db8::1') as bigint;

async function fill(leases: number): Promise<number> {
  const started = performance.now();
  for (let done = 0; done < leases; done += BATCH) {
    const puts = Array.from({ length: Math.min(BATCH, leases - done) }, (_, i) => {
      const number = done + i;
      const key = `${PREFIX}/subnets/${formatSubnetKey({
        subnet: { address: first + (0x8000 + number) * 256, length: 24 },
        subnetV6: dual ? { address: firstV6 + (BigInt(0x8000 + number) << 64n), length: 64 } : null,
      })}`;
      const publicIpv6 = dual ? firstHostV6 + BigInt(number) : null;
      return client.put(key).value(encodeLeaseValue({ publicIp: firstHost + number, publicIpv6 }));
    });
    await client
      .if(`${PREFIX}/config`, 'Version', '>', 0)
      .then(...puts)
      .commit();
  }
  return (performance.now() - started) / 1000;
}

async function reset(): Promise<number> {
  const started = performance.now();
  await client.delete().prefix(PREFIX);
  // the daemon takes its own subnet from the lower end, the others' are far above
  const own = { SubnetMin: '10.0.1.0', SubnetMax: '10.0.255.0' };
  const six = { EnableIPv6: true, IPv6Network: 'fd00:5::/32', IPv6SubnetMax: 'fd00:5:0:ff::' };
  const config = { Network: '10.0.0.0/8', SubnetLen: 24, ...own, ...(dual && six), Backend: { Type: 'udp' } };
  await client.put(`${PREFIX}/config`).value(JSON.stringify(config));
  return (performance.now() - started) / 1000;
}

try {
  const startedAt = Date.now();
  const seconds = await (task === 'fill' ? fill(Number(count)) : reset());
  process.stdout.write(`${JSON.stringify({ startedAt, seconds })}\n`);
} finally {
  client.close();
}
