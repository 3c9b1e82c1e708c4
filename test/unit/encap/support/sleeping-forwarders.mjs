// Both forwarders over descriptors that never have anything to read, after a rehearsal; then the process is to end in one of
// several ways. By "stop" it prints what was counted.
// Runs the built code: a worker thread cannot load TypeScript. Usage:
// node sleeping-forwarders.mjs stop|exit|throw|reject|broken THREADS
import { DataPlane } from '../../../../dist/encap/datapath/data-plane.js';
import { control } from '../../../../dist/linux/libc.js';

const plane = new DataPlane({ ipv4: { address: 0x64600000, length: 16 }, ipv6: null }, 8285);
const options = {
  layout: plane.layout,
  tun: control.eventfd(0, 0),
  socket: control.eventfd(0, 0),
  vnetHeader: true,
  socketV6: -1,
  carriesIpv4: true,
  ipv6: null,
  network: 0x64600000,
  networkMask: 0xffff0000,
  subnet: 0x64600100,
  subnetMask: 0xffffff00,
  port: 8285,
  mtu: 1472,
  mayBeUnfinished: false,
  maxSegments: 64,
  receiveSlots: 8,
  mergeTcp: true,
  mergeUdp: true,
  checkSenders: true,
  icmpSource: 0x64600000,
  overlayAddress: 0x64600100,
  icmpPerSecond: 1,
  icmpBurst: 1,
};
const rehearsal = { vnetHeader: true, overlay: { ipv4: true, ipv6: true }, underlay: { ipv4: true, ipv6: true } };
if (process.argv[2] === 'broken') {
  // without a plan the rehearsal throws, while the options are not there yet
  const never = new Promise(() => {});
  const how = { threads: Number(process.argv[3]), rehearsal: {}, onEnd: () => process.exit(9) };
  await plane.start(never, how).catch((error) => process.exit(error instanceof TypeError ? 4 : 5));
}
await plane.start(options, { threads: Number(process.argv[3]), rehearsal, onEnd: () => process.exit(9) });
switch (process.argv[2]) {
  case 'stop':
    await plane.stop();
    process.stdout.write(`${plane.counters.tx.sum()} ${plane.counters.rx.sum()}`);
    break;
  case 'exit':
    process.exit(3);
    break;
  case 'throw':
    setImmediate(() => {
      throw new Error('nobody catches this');
    });
    break;
  case 'reject':
    void Promise.reject(new Error('nobody handles this'));
    break;
}
