// One host's data path in a process of its own, told what to do over the IPC channel: a daemon without registry.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { UdpBackend } from '../../../../dist/backend/udp/udp-backend.js';
import { WireguardBackend } from '../../../../dist/backend/wireguard/wireguard-backend.js';
import { createLogger } from '../../../../dist/base/log.js';

let backend = null;

/** @param key the private key in base64 where datagrams are sealed; null where they are not */
function make(context, options, key) {
  if (key === null) return new UdpBackend(context, options);
  const folder = mkdtempSync(path.join(tmpdir(), 'tweed-host-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const keyFile = path.join(folder, 'wgkey');
  writeFileSync(keyFile, key, { mode: 0o400 });
  return new WireguardBackend(context, { engine: 'user', keyFile, socketDirectory: path.join(folder, 'wg') }, options);
}

const calls = {
  async start(context, options, lease, peers, key) {
    backend = make({ ...context, log: createLogger('info') }, options, key);
    const current = backend;
    void backend.failed.then((error) => process.send({ failed: `${error.code}: ${error.message}` }));
    try {
      await current.start(lease, peers);
    } catch (error) {
      backend = null;
      throw error;
    }
    return current.mtu;
  },
  async stop() {
    await backend?.stop({ cleanUp: true });
    backend = null;
  },
  setPeers: (peers) => backend.setPeers(peers),
  status: () => backend.status(),
  /** Keeps the control thread busy; says when it begins. */
  block(milliseconds) {
    process.send({ blocked: true });
    const end = Date.now() + milliseconds;
    while (Date.now() < end);
  },
  /** What the process holds: open descriptors, resident memory in KiB. */
  usage() {
    const [, resident] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    return { descriptors: readdirSync('/proc/self/fd').length, residentKib: Number(resident) };
  },
};

process.on('message', async ({ id, call, args }) => {
  try {
    process.send({ id, result: (await calls[call](...args)) ?? null });
  } catch (error) {
    process.send({ id, error: { name: error.name, code: error.code, message: error.message } });
  }
});
// the test has gone, whatever became of it
process.on('disconnect', () => process.exit(1));
