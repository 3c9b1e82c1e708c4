import { type ChildProcess, spawn } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually, type TestHost, TestNetwork } from './hosts.js';

const PORT = 7000;

/** Sends a numbered line every 10 ms and, asked to end, says how many there were. */
const SENDER = `
const socket = require('net').connect({ host: process.argv[1], port: ${PORT} });
let sent = 0;
const timer = setInterval(() => socket.write(++sent + '\\n'), 10);
socket.on('error', (error) => { console.log('broken ' + error.code); process.exit(1); });
process.stdin.on('data', () => { clearInterval(timer); socket.end(() => console.log('sent ' + sent)); });
`;

/** Checks the numbers, and at the end of the connection says how many came. */
const RECEIVER = `
require('net').createServer((socket) => {
  let rest = '', expected = 1;
  socket.once('data', () => console.log('connected'));
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\\n');
    rest = lines.pop();
    for (const line of lines) if (Number(line) !== expected++) { console.log('wrong ' + line); process.exit(1); }
  });
  socket.on('end', () => console.log('received ' + (expected - 1)));
  socket.on('error', (error) => console.log('broken ' + error.code));
}).listen(${PORT}, () => console.log('listening'));
`;

/** A command in a host's namespace whose output can be read while it runs. */
class Running {
  readonly #process: ChildProcess;
  output = '';

  constructor(host: TestHost, ...argv: string[]) {
    this.#process = spawn('ip', ['netns', 'exec', host.namespace, ...argv], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#process.stdout?.on('data', (chunk: Buffer) => {
      this.output += chunk;
    });
  }

  tell(): void {
    this.#process.stdin?.write('\n');
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

describe('a daemon that is killed and started again at once', () => {
  let network: TestNetwork;
  const running: Running[] = [];
  const run = (host: TestHost, ...argv: string[]) => {
    const command = new Running(host, ...argv);
    running.push(command);
    return command;
  };

  afterEach(async () => {
    for (const command of running.splice(0)) command.kill();
    await network.remove();
  });

  it('loses no TCP connection and not one byte of it, and says how long nothing was forwarded', async () => {
    network = await TestNetwork.create();
    const [first, second] = network.hosts;
    const [daemon] = await network.startBoth();
    // A container's bridge stands in for the containers: its address stays while the daemon is away.
    const addresses = [];
    for (const host of network.hosts) {
      const address = ((await host.status()).lease?.subnet ?? '').replace(/0\/24$/, '1');
      await host.run('ip', 'link', 'add', 'bridge0', 'type', 'bridge');
      await host.run('ip', 'address', 'add', `${address}/24`, 'dev', 'bridge0');
      await host.run('ip', 'link', 'set', 'bridge0', 'up');
      addresses.push(address);
    }
    const [, remote = ''] = addresses;
    await first.reaches(remote);
    const receiver = run(second, process.execPath, '-e', RECEIVER);
    await eventually(() => expect(receiver.output).toContain('listening'));
    const sender = run(first, process.execPath, '-e', SENDER, remote);
    await eventually(() => expect(receiver.output).toContain('connected'));
    const pings = run(first, 'ping', '-n', '-i', '0.01', '-c', '400', '-W', '1', remote);
    // The route goes with the daemon's device: a ping that starts after that ends at once.
    await eventually(() => expect(pings.output).toContain('bytes from'));

    await daemon.stop('SIGKILL');
    const again = first.start([network.endpoint]);
    await first.ready(1);

    const SUMMARY = /(\d+) packets transmitted, (\d+) received/;
    await eventually(() => expect(pings.output).toMatch(SUMMARY));
    const [, sent = '', received = ''] = SUMMARY.exec(pings.output) ?? [];
    const lost = Number(sent) - Number(received);
    console.info(`SIGKILL and restart: about ${lost * 10} ms without forwarding`);
    expect(Number(received)).toBeGreaterThan(0);
    sender.tell();
    await eventually(() => expect(sender.output).toMatch(/^sent \d+$/m));
    const total = /\d+/.exec(sender.output)?.[0];
    await eventually(() => expect(receiver.output).toContain(`received ${total}\n`));
    expect(await again.stop()).toBe(0);
  });
});
