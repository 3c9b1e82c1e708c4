// One host's data path in a process of its own, told what to do over the IPC channel: a daemon without registry.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { UdpBackend } from '../../../../dist/backend/udp/udp-backend.js';
import { WireguardBackend } from '../../../../dist/backend/wireguard/wireguard-backend.js';
import { createLogger } from '../../../../dist/base/log.js';

let backend = null;

/** Time that passes faster than it does, for keys that live for minutes. */
function fastClock(speed) {
  const [monotonic, wall] = [performance.now(), Date.now()];
  return () => {
    const passed = (performance.now() - monotonic) * speed;
    return { monotonic: monotonic + passed, wall: wall + passed };
  };
}

/**
 * @param key the private key in base64 where datagrams are sealed; null where they are not
 * @param clockSpeed of the sessions' time
 */
function make(context, options, key, clockSpeed) {
  if (key === null) return new UdpBackend(context, options);
  const folder = mkdtempSync(path.join(tmpdir(), 'tweed-host-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const keyFile = path.join(folder, 'wgkey');
  writeFileSync(keyFile, key, { mode: 0o400 });
  const socketDirectory = path.join(folder, 'wg');
  const daemon = { engine: 'user', keyFile, socketDirectory, clock: fastClock(clockSpeed) };
  return new WireguardBackend(context, daemon, options);
}

const calls = {
  async start(context, options, lease, peers, key, clockSpeed) {
    backend = make({ ...context, log: createLogger('info') }, options, key, clockSpeed);
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
