import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { DirectoryRegistry } from '../../../src/subnet/directory/directory-registry.js';
import { EtcdRegistry, type EtcdRegistryOptions } from '../../../src/subnet/etcd/etcd-registry.js';
import { openRegistry } from '../../../src/subnet/open-registry.js';
import { recordingLogger } from '../../support/manager-harness.js';

const open = (options: EtcdRegistryOptions) => openRegistry(options, silentLogger());

describe('the registry', () => {
  it('is a directory for file: and etcd for everything else', async () => {
    const directory = await open({ endpoints: ['file:///var/lib/tweed'] });
    expect(directory).toBeInstanceOf(DirectoryRegistry);
    expect(directory.description).toBe('directory /var/lib/tweed');
    const etcd = await open({ endpoints: ['http://127.0.0.1:4001', '127.0.0.1'], prefix: 'other/place/' });
    expect(etcd).toBeInstanceOf(EtcdRegistry);
    expect(etcd.description).toBe('etcd at http://127.0.0.1:4001, http://127.0.0.1:2379, prefix other/place');
    await etcd.close();
  });

  it('speaks TLS everywhere as soon as there is a TLS file, and says so', async () => {
    const { log, lines } = recordingLogger();
    const registry = await openRegistry({ endpoints: ['http://etcd:2379'], caFile: '/etc/ca.pem' }, log);
    expect(registry.description).toContain('https://etcd:2379');
    expect(lines[0]?.message).toMatch(/over TLS/);
  });

  it('never shows the password', async () => {
    const { log, lines } = recordingLogger();
    const options = { endpoints: ['http://127.0.0.1:1'], username: 'root', password: 'hunter2', callTimeoutMs: 300 };
    const registry = await openRegistry(options, log);
    const error = await registry.getConfig().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Error);
    await registry.close();
    expect(JSON.stringify([registry.description, String(error), (error as Error).stack, lines])).not.toContain(
      'hunter2',
    );
  });
});

describe('options that contradict each other', () => {
  it.each<[string, EtcdRegistryOptions, RegExp]>([
    ['no endpoint', { endpoints: [] }, /at least one/],
    ['a key alone', { endpoints: ['https://a:1'], keyFile: 'k' }, /key file is given without its certificate/],
    ['a certificate alone', { endpoints: ['https://a:1'], certFile: 'c' }, /certificate file .* without its key/],
    ['a password alone', { endpoints: ['http://a:1'], password: 'p' }, /without a user name/],
    ['another scheme', { endpoints: ['ftp://a:1'] }, /no etcd endpoint/],
    ['a path', { endpoints: ['http://a:1/v2'] }, /no etcd endpoint/],
    ['a directory among others', { endpoints: ['http://a:1', 'file:///x'] }, /give it alone/],
    ['a relative directory', { endpoints: ['file://host/x'] }, /file:\/\/\/absolute\/path/],
  ])('%s', async (_, options, message) => {
    await expect(open(options)).rejects.toThrow(message);
  });

  it('do not show a password in an endpoint', async () => {
    await expect(open({ endpoints: ['http://root:hunter2@a:1'] })).rejects.toThrow(/"http:\/\/…@a:1"/);
  });

  it('a TLS file that cannot be read is an error of the request', async () => {
    const registry = await open({ endpoints: ['https://127.0.0.1:1'], caFile: '/nonexistent/ca.pem' });
    await expect(registry.getConfig()).rejects.toMatchObject({ code: 'REGISTRY_DENIED' });
    await registry.close();
  });
});
