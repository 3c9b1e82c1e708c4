import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import {
  HandOver,
  HandOverError,
  type HandOverServer,
  handOverSocket,
  handOverSocketOf,
  offerHandOver,
} from '../../../src/daemon/hand-over.js';
import { Inheritance } from '../../../src/linux/inheritance.js';
import { emptyVessel, fillVessel } from '../../../src/linux/vessel.js';

const WHAT = 'network 10.5.0.0/16, device flannel0';

let directory: string;
let file: string;
let server: HandOverServer | null = null;
let opened: number[] = [];
let taken = 0;
let vessels: string[] = [];
let filled: number[] = [];
let refusal = '';

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-hand-over-'));
  file = path.join(directory, 'tweed.handover');
  taken = 0;
  vessels = [];
  filled = [];
  refusal = '';
});
afterEach(async () => {
  await server?.close();
  server = null;
  for (const fd of [...opened.splice(0), ...filled]) fs.closeSync(fd);
  fs.rmSync(directory, { recursive: true });
});

/** The old daemon, whose descriptors are of files that hold their names. */
async function offer(...names: string[]): Promise<void> {
  const descriptors = new Map(
    names.map((name) => {
      fs.writeFileSync(path.join(directory, name), name);
      return [name, fs.openSync(path.join(directory, name), 'r')];
    }),
  );
  opened = [...descriptors.values()];
  const giver = {
    serving: () => WHAT,
    descriptors: () => descriptors,
    vessels: () => vessels,
    refusal: () => refusal,
    onTaken: (given: Inheritance) => {
      taken++;
      for (const name of vessels) filled.push(given.take(name) as number);
    },
  };
  server = await offerHandOver(file, giver, silentLogger());
}

const contentOf = (inheritance: Inheritance, name: string) => {
  const fd = inheritance.take(name) as number;
  opened.push(fd);
  return fs.readFileSync(fd, 'utf8');
};

describe('the socket for it', () => {
  it('is found by the process among those of several daemons', () => {
    for (const [name, holder] of Object.entries({ 'tweed.sock': 41, 'tweed-2.sock': 42 })) {
      fs.writeFileSync(path.join(directory, `${name}.lock`), `${holder}\n`);
    }
    expect(handOverSocketOf(directory, 42)).toBe(path.join(directory, 'tweed-2.handover'));
    expect(handOverSocketOf(directory, 41)).toBe(handOverSocket(path.join(directory, 'tweed.sock')));
  });

  it.each([43, null])('is not that of another daemon (%s)', (holder) => {
    fs.writeFileSync(path.join(directory, 'tweed.sock.lock'), '');
    expect(() => handOverSocketOf(directory, holder)).toThrow('no status socket');
  });
});

describe('a hand-over', () => {
  it('gives the descriptors, and ends the old daemon only when the new one forwards', async () => {
    await offer('tun', 'udp');
    const inheritance = new Inheritance();
    const handOver = await HandOver.begin(file, WHAT, inheritance);
    expect(['tun', 'udp'].map((name) => contentOf(inheritance, name))).toEqual(['tun', 'udp']);
    expect(taken).toBe(0);
    const completed = handOver.complete();
    while (taken === 0) await new Promise((resolve) => setImmediate(resolve));
    await server?.close();
    expect(await completed).toBe(true);
    expect(fs.readdirSync(directory).sort()).toEqual(['tun', 'udp']);
  });

  it('needs no descriptors', async () => {
    await offer();
    const inheritance = new Inheritance();
    await HandOver.begin(file, WHAT, inheritance);
    expect(inheritance.empty).toBe(true);
  });

  it('gives each new daemon vessels of its own, of which those are filled that belong to the one that forwards', async () => {
    await offer('tun');
    vessels = ['sessions', 'others'];
    const [one, two] = [new Inheritance(), new Inheritance()];
    await HandOver.begin(file, WHAT, one);
    const handOver = await HandOver.begin(file, WHAT, two);
    for (const each of [one, two]) opened.push(each.take('tun') as number);
    const [mine, theirs] = [two, one].map((each) => vessels.map((name) => each.take(name) as number));
    opened.push(...mine!, ...theirs!);
    expect(mine!.map(emptyVessel)).toEqual([null, null]);
    const completed = handOver.complete();
    while (taken === 0) await new Promise((resolve) => setImmediate(resolve));
    for (const [i, vessel] of filled.entries()) fillVessel(vessel, Uint8Array.of(i, 7));
    await server?.close();
    await completed;
    expect(mine!.map(emptyVessel)).toEqual([Uint8Array.of(0, 7), Uint8Array.of(1, 7)]);
    expect(mine!.map(emptyVessel)).toEqual([null, null]);
    expect(theirs!.map(emptyVessel)).toEqual([null, null]);
  });

  it('is nothing to the old daemon when the new one ends before it forwards', async () => {
    await offer('tun');
    const inheritance = new Inheritance();
    const socket = net.connect(file, () =>
      socket.write(`${JSON.stringify({ take: path.join(directory, 'none'), serving: WHAT })}\n`),
    );
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await HandOver.begin(file, WHAT, inheritance);
    expect(contentOf(inheritance, 'tun')).toBe('tun');
    expect(taken).toBe(0);
  });

  it('is refused with the reason', async () => {
    await offer('tun');
    refusal = 'a service manager runs it';
    await expect(HandOver.begin(file, WHAT, new Inheritance())).rejects.toThrow(HandOverError);
    await expect(HandOver.begin(file, WHAT, new Inheritance())).rejects.toThrow('a service manager runs it');
    expect(taken).toBe(0);
  });

  it('is refused by a daemon that serves something else', async () => {
    await offer('tun');
    const asked = HandOver.begin(file, 'network 10.9.0.0/16, device flannel0', new Inheritance());
    await expect(asked).rejects.toThrow('it serves network 10.5.0.0/16, device flannel0, not network 10.9.0.0/16');
  });

  it('leaves what is shared alone until the old daemon forwards no more, and waits for its end besides', async () => {
    await offer('tun');
    const inheritance = new Inheritance();
    const handOver = await HandOver.begin(file, WHAT, inheritance);
    let ended = false;
    const completed = handOver.complete().then(() => {
      ended = true;
    });
    while (taken === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(inheritance.shared).toBe(true);
    server?.stopped();
    await inheritance.owned();
    expect(ended).toBe(false);
    await server?.close();
    await completed;
    inheritance.close();
  });

  it('leaves what is shared alone until the old daemon has ended', async () => {
    await offer('tun');
    const inheritance = new Inheritance();
    const handOver = await HandOver.begin(file, WHAT, inheritance);
    expect(inheritance.shared).toBe(true);
    const completed = handOver.complete();
    while (taken === 0) await new Promise((resolve) => setImmediate(resolve));
    await server?.close();
    await completed;
    expect(inheritance.shared).toBe(false);
    inheritance.close();
  });

  it('fails where nobody listens, also behind the socket of one that was killed', async () => {
    await expect(HandOver.begin(file, WHAT, new Inheritance())).rejects.toThrow('ENOENT');
    fs.writeFileSync(file, '');
    await expect(HandOver.begin(file, WHAT, new Inheritance())).rejects.toThrow('ECONNREFUSED');
    await offer();
    await HandOver.begin(file, WHAT, new Inheritance());
  });

  it('is between processes of one user', async () => {
    await offer();
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  });

  it('is broken off by a line that does not end', async () => {
    await offer('tun');
    const socket = net.connect(file, () => socket.write('x'.repeat(10_000)));
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('close', resolve));
    expect(taken).toBe(0);
  });

  it.each(['', 'null', '{"take":7}', '{"take":"/run/x"}', '{"forwarding":1}', '[]', 'take'])(
    'does not understand %j',
    async (line) => {
      await offer('tun');
      const socket = net.connect(file, () => socket.write(`${line}\n`));
      const answer = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
      socket.destroy();
      expect(JSON.parse(answer.toString())).toEqual({ refused: 'the request is not understood' });
      expect(taken).toBe(0);
    },
  );
});
