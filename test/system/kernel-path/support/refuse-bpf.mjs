// node --import 'refuse-bpf.mjs?errno=22&commands=28': from then on the kernel refuses bpf(2) with this errno to the program, for
// these commands (numbers with commas; `all`), as an older or a locked kernel does. By seccomp: it holds for all that it starts.
import koffi from 'koffi';

const libc = koffi.load(null);
const prctl = libc.func('int prctl(int option, unsigned long a, const void *b, unsigned long c, unsigned long d)');

const options = new URL(import.meta.url).searchParams;
const commands = options.get('commands');
const SYS_BPF = process.arch === 'arm64' ? 280 : 321;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
// instructions of classic BPF (linux/bpf_common.h) over `struct seccomp_data`: the call's number first, its arguments from byte 16
const LOAD = 0x20;
const IF_EQUAL = 0x15;
const RETURN = 0x06;
const FIRST_ARGUMENT = 16;

const refused = commands === 'all' ? [] : commands.split(',').map(Number);
const all = commands === 'all';
/** Where the program allows; it refuses one further. */
const allow = 2 + (all ? 0 : 1 + refused.length);
const code = [[LOAD, 0, 0, 0]];
const jump = (value, whenEqual, otherwise) => {
  const here = code.length + 1;
  code.push([IF_EQUAL, whenEqual === null ? 0 : whenEqual - here, otherwise === null ? 0 : otherwise - here, value]);
};
jump(SYS_BPF, all ? allow + 1 : null, allow);
if (!all) {
  code.push([LOAD, 0, 0, FIRST_ARGUMENT]);
  for (const command of refused) jump(command, allow + 1, null);
}
code.push([RETURN, 0, 0, ALLOW], [RETURN, 0, 0, ERRNO | Number(options.get('errno'))]);

const instructions = Buffer.alloc(code.length * 8);
for (const [i, [operation, whenTrue, whenFalse, value]] of code.entries()) {
  instructions.writeUInt16LE(operation, i * 8);
  instructions.writeUInt8(whenTrue, i * 8 + 2);
  instructions.writeUInt8(whenFalse, i * 8 + 3);
  instructions.writeUInt32LE(value, i * 8 + 4);
}
const filter = Buffer.alloc(16);
filter.writeUInt16LE(code.length, 0);
filter.writeBigUInt64LE(koffi.address(instructions), 8);
if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) < 0) throw new Error(`seccomp: errno ${koffi.errno()}`);
