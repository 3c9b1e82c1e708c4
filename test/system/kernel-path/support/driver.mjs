// A kernel path in a process of its own, inside a host's namespace, told what to do over the IPC channel.
import { KernelPath } from '../../../../dist/kernel-path/kernel-path.js';

let path = null;

const calls = {
  async start(options) {
    path = await KernelPath.start(options);
    return path.status();
  },
  setPeers: (peers) => path.setPeers(peers),
  setContainers: (containers) =>
    path.setContainers(
      containers.map(({ mac, gatewayMac, ...rest }) => ({
        ...rest,
        mac: Uint8Array.from(mac),
        gatewayMac: Uint8Array.from(gatewayMac),
      })),
    ),
  keepBridges: (bridges) => path.keepBridges(bridges),
  counters: () => path.counters(),
  peers: () => path.peers(),
  status: () => path.status(),
  async stop() {
    await path?.stop();
    path = null;
  },
};

process.on('message', async ({ id, call, args }) => {
  try {
    process.send({ id, result: (await calls[call](...args)) ?? null });
  } catch (error) {
    process.send({ id, error: { code: error.code, stage: error.stage, message: error.message } });
  }
});
// the test has gone, whatever became of it; what hangs by descriptors goes with the process
process.on('disconnect', () => process.exit(1));
