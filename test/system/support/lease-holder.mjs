// One host as a process of its own, to be stopped and continued by a test: holds a lease and tells its news, one JSON value
// a line. Runs the built code. Usage: node lease-holder.mjs ENDPOINT ADDRESS TTL_SECONDS
import { parseIpv4 } from '../../../dist/base/ipv4.js';
import { silentLogger } from '../../../dist/base/log.js';
import { EtcdRegistry } from '../../../dist/subnet/etcd/etcd-registry.js';
import { LeaseManager } from '../../../dist/subnet/leases/lease-manager.js';

const [endpoint, address, ttl] = process.argv.slice(2);
const tell = (news) => process.stdout.write(`${JSON.stringify(news)}\n`);
const log = silentLogger();
const publicIp = parseIpv4(address);
const registry = new EtcdRegistry({ endpoints: [endpoint], callTimeoutMs: 2_000 }, log);
const manager = new LeaseManager({ registry, log, publicIp, ttlSeconds: Number(ttl) });
manager.on('lease', (_, cause) => tell({ news: cause }));
manager.on('lost', (error) => {
  tell({ news: 'lost', message: error.message });
  void manager.close().then(() => process.exit(3));
});
const lease = await manager.acquire(await manager.waitForConfig(), { publicIp, publicIpv6: null });
manager.follow();
tell({ news: 'leased', key: lease.key });
