// Leases of many hosts that are not there, in a few big transactions, and all gone at once when their etcd lease is revoked.
// Usage: node many-leases.mjs ENDPOINT FIRST_SUBNET COUNT; puts them, says "put", and takes them away on a line of input.
import { once } from 'node:events';
import { Etcd3 } from 'etcd3';
import { formatIpv4, parseIpv4 } from '../../../dist/base/ipv4.js';

/** etcd takes 128 operations in a transaction. */
const BATCH = 128;

const [endpoint, first, count] = process.argv.slice(2);
const client = new Etcd3({ hosts: endpoint });
const lease = client.lease(600, { autoKeepAlive: false });
const id = await lease.grant();
const puts = Array.from({ length: Number(count) }, (_, number) => {
  const key = `/coreos.com/network/subnets/${formatIpv4(parseIpv4(first) + number * 256)}-24`;
  const value = `{"PublicIP":"${formatIpv4(parseIpv4('10.200.0.0') + number)}","PublicIPv6":null}`;
  return client.put(key).value(value).lease(id);
});
for (let from = 0; from < puts.length; from += BATCH) {
  await client
    .if(`/none-${from}`, 'Version', '==', 0)
    .then(...puts.slice(from, from + BATCH))
    .commit();
}
process.stdout.write('put\n');
await once(process.stdin, 'data');
await lease.revoke();
client.close();
process.exit(0);
