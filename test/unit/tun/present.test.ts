import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { presentDevice, removalOf } from '../../../src/tun/present.js';

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-net-'));
});
afterEach(() => fs.rmSync(root, { recursive: true }));

// as the kernel prints them: IFF_TUN 1, IFF_TAP 2, IFF_MULTI_QUEUE 0x100, IFF_PERSIST 0x800, IFF_NO_PI 0x1000
it.each([
  ['nothing', null, null, 'none', ''],
  ['a bridge', '', null, 'no tun', 'ip link del flannel0'],
  ['a TAP device', '0x1802', null, 'no tun', 'ip link del flannel0'],
  ['the device of a process', '0x5001', '1', 'held', ''],
  ['one that lives on, with a process', '0x1801', '1', 'held', ''],
  ['one that lives on, up', '0x1801', '0', 'left over', ''],
  ['one that lives on, down', '0x1801', null, 'left over', ''],
  ['one for several processes', '0x1901', '0', 'several queues', 'ip tuntap del dev flannel0 mode tun multi_queue'],
  ['an interface that is up', '', '1', 'in use', ''],
  ['a TAP device that is up', '0x1802', '1', 'in use', ''],
])('sees %s', (_, flags, carrier, expected, removal) => {
  const write = (name: string, text: string) => fs.writeFileSync(path.join(root, 'flannel0', name), `${text}\n`);
  if (flags !== null) fs.mkdirSync(path.join(root, 'flannel0'));
  if (flags) write('tun_flags', flags);
  if (carrier !== null) write('carrier', carrier);
  if (expected === 'in use') write('flags', '0x1003'); // IFF_UP 1
  const present = presentDevice('flannel0', root);
  expect([present, removalOf('flannel0', present)]).toEqual([expected, removal]);
});
