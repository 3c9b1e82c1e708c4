import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { etcdKeys } from '../../../src/subnet/etcd/etcd-registry.js';
import { openRegistry } from '../../../src/subnet/open-registry.js';

// What Go's path.Join(prefix, "config") and path.Join(prefix, "subnets") give.
describe('keys below a prefix', () => {
  it.each([
    ['/coreos.com/network', '/coreos.com/network/config', '/coreos.com/network/subnets/'],
    ['/coreos.com/network/', '/coreos.com/network/config', '/coreos.com/network/subnets/'],
    ['kube-centos/network', 'kube-centos/network/config', 'kube-centos/network/subnets/'],
    ['//a//b//', '/a/b/config', '/a/b/subnets/'],
    ['/', '/config', '/subnets/'],
    ['', 'config', 'subnets/'],
    ['.', 'config', 'subnets/'],
    ['./a', 'a/config', 'a/subnets/'],
    ['/a/../b', '/b/config', '/b/subnets/'],
    ['a/..', 'config', 'subnets/'],
    ['..', '../config', '../subnets/'],
    ['/..', '/config', '/subnets/'],
    [' a', ' a/config', ' a/subnets/'],
    ['/Ünïcode', '/Ünïcode/config', '/Ünïcode/subnets/'],
  ])('%j', (prefix, configKey, subnets) => {
    // our own place stands beside them: flannel lists all that begins with `subnets`
    const ipv6Subnets = subnets.replace(/subnets\/$/, 'ipv6/subnets/');
    expect(etcdKeys(prefix)).toEqual({ configKey, subnets, ipv6Subnets });
  });

  it('are at the root when the prefix is empty on purpose', async () => {
    const registry = await openRegistry({ endpoints: ['http://127.0.0.1:1'], prefix: '' }, silentLogger());
    expect(registry.description).toMatch(/, prefix \.$/);
    await registry.close();
  });
});
