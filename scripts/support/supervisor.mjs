// As much of a service manager as it takes to restart a daemon without its device going: takes descriptors by sd_notify(3)
// (FDSTORE=1), keeps them, and passes them to the next process by sd_listen_fds(3). Runs the built code for the sockets.
// Usage: supervisor.mjs SOCKET STORE PROGRAM ARGUMENTS…, where STORE is how many descriptors may be kept.
// Standard input: `restart SIGNAL`, or `stop`; or `pause SIGNAL`, which keeps what is kept until `resume`, after which each word
// stands in the place of the argument with the same beginning up to `=`. Standard output: one line for `started PID`, `ready`, `ended WHY`.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { createInterface } from 'node:readline';
import { UnixReceiver } from '../../dist/linux/unix-datagram.js';

const [socket, room, program, ...given] = process.argv.slice(2);
const receiver = new UnixReceiver(socket);
/** Name and descriptor, in the order in which they came. */
let kept = [];
let child = null;
let args = given;
/** When the process has ended. */
let next = end;

function start() {
  const environment = { ...process.env, NOTIFY_SOCKET: socket };
  // a shell knows its own process number, which the daemon inherits from it
  const shell = 'test -z "$LISTEN_FDS" || export LISTEN_PID=$$; exec "$@"';
  if (kept.length > 0) {
    environment.LISTEN_FDS = String(kept.length);
    environment.LISTEN_FDNAMES = kept.map(({ name }) => name).join(':');
  }
  child = spawn('sh', ['-c', shell, 'sh', program, ...args], {
    env: environment,
    stdio: ['ignore', 'inherit', 'inherit', ...kept.map(({ fd }) => fd)],
  });
  console.log(`started ${child.pid}`);
  child.on('exit', (status, signal) => {
    console.log(`ended ${signal ?? status}`);
    child = null;
    next();
    next = end;
  });
}

function handle({ message, descriptors }) {
  const words = Object.fromEntries(
    message.split('\n').map((line) => /^([^=]*)=(.*)$/.exec(line)?.slice(1) ?? [line, '']),
  );
  const fits = words.FDSTORE === '1' && kept.length + descriptors.length <= Number(room);
  for (const fd of descriptors) {
    if (fits) kept.push({ name: words.FDNAME ?? 'stored', fd });
    else fs.closeSync(fd);
  }
  if (words.FDSTOREREMOVE === '1') {
    for (const { name, fd } of kept) if (name === words.FDNAME) fs.closeSync(fd);
    kept = kept.filter(({ name }) => name !== words.FDNAME);
  }
  if (words.READY === '1') console.log('ready');
}

function end() {
  clearInterval(timer);
  receiver.close();
  fs.rmSync(socket, { force: true });
  process.exit(0);
}

// Node cannot wait for such a socket
const timer = setInterval(() => {
  for (let datagram = receiver.receive(); datagram !== null; datagram = receiver.receive()) handle(datagram);
}, 2);
createInterface({ input: process.stdin }).on('line', (line) => {
  const [word, ...more] = line.split(' ');
  if (word === 'resume') {
    const nameOf = (argument) => argument.split('=')[0];
    args = args.map((argument) => more.find((other) => nameOf(other) === nameOf(argument)) ?? argument);
    return start();
  }
  next = { restart: start, pause: () => {} }[word] ?? end;
  if (child === null) end();
  else child.kill(more[0] ?? 'SIGTERM');
});
process.stdin.on('end', () => {
  next = end;
  if (child === null) end();
  else child.kill('SIGKILL');
});
start();
