// confine.mjs FOLDER UNIT PROGRAM ARGUMENT...: becomes a program that may make only the system calls which a unit leaves it, as
// systemd does: by libseccomp, which is loaded by the koffi in FOLDER. What the unit says of capabilities and of the file system is
// for those who start this.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [folder, unit, program, ...argv] = process.argv.slice(2);
const koffi = createRequire(`${folder}/`)('koffi');

const settings = readFileSync(unit, 'utf8')
  .split('\n')
  .flatMap((line) => [/^([A-Z]\w+)=(.*)$/.exec(line)?.slice(1) ?? []])
  .filter(({ length }) => length > 0);
const of = (name) => settings.filter(([key]) => key === name).flatMap(([, value]) => value.split(' '));

const ERROR_EPERM = 0x00050001;
const ALLOW = 0x7fff0000;
const EQUAL = 4;
const families = { AF_UNIX: 1, AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16 };

const seccomp = koffi.load('libseccomp.so.2');
const init = seccomp.func('void *seccomp_init(uint32_t action)');
const numberOf = seccomp.func('int seccomp_syscall_resolve_name(const char *name)');
const add = seccomp.func(
  'int seccomp_rule_add_array(void *context, uint32_t action, int number, unsigned int count, const void *comparisons)',
);
const load = seccomp.func('int seccomp_load(void *context)');
const execve = koffi.load(null).func('int execve(const char *path, const char **argv, const char **environment)');

const allowed = new Set(of('SystemCallFilter').flatMap(members));
if (of('RestrictNamespaces')[0] === 'yes') for (const name of ['unshare', 'setns']) allowed.delete(name);
allowed.delete('socket'); // by its families below
allowed.add('execve');

const context = init(ERROR_EPERM);
for (const name of allowed) {
  const number = numberOf(name);
  if (number >= 0) check(add(context, ALLOW, number, 0, null), name); // below: another architecture's
}
for (const name of of('RestrictAddressFamilies')) {
  // struct scmp_arg_cmp: argument, comparison, two values
  const comparison = Buffer.alloc(24);
  comparison.writeUInt32LE(EQUAL, 4);
  comparison.writeBigUInt64LE(BigInt(families[name]), 8);
  check(add(context, ALLOW, numberOf('socket'), 1, comparison), name);
}
check(load(context), 'seccomp_load');
const fcntl = koffi.load(null).func('int fcntl(int fd, int command, long argument)');
const F_SETFD = 2;
for (const stream of [0, 1, 2]) fcntl(stream, F_SETFD, 0); // Node would have them closed
const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`);
execve(program, [program, ...argv, null], [...environment, null]);
throw new Error(`cannot become ${program}`);

/** The system calls of a group. */
function members(name) {
  if (!name.startsWith('@')) return [name];
  const text = execFileSync('systemd-analyze', ['syscall-filter', '--no-pager', name], { encoding: 'utf8' });
  const lines = text.split('\n').map((line) => line.trim());
  return lines
    .slice(1)
    .filter((line) => line !== '' && !line.startsWith('#'))
    .flatMap(members);
}

function check(status, what) {
  if (status !== 0) throw new Error(`${what}: ${status}`);
}
