import { describe, expect, it } from 'vitest';
import {
  CAPABILITIES,
  disarmOthers,
  exceeds,
  lowerTo,
  type PrivilegeCalls,
  type Privileges,
  parsePrivileges,
  setOf,
  startAnew,
  useOnly,
} from '../../../src/linux/privileges.js';

const all = (1n << 41n) - 1n;
const root: Privileges = {
  inheritable: 0n,
  permitted: all,
  effective: all,
  bounding: all,
  ambient: 1n << 21n,
  noNewPrivileges: false,
  root: true,
};
const kept = setOf(['NET_ADMIN', 'NET_RAW']);

/** What was called, on a kernel with 41 capabilities. */
function kernel(fails: { capset?: boolean; prctl?: number; errno?: number; setresuid?: 'all' | 'back' } = {}) {
  const calls: (string | number)[][] = [];
  const words = (bytes: Uint8Array) => [...new Uint32Array(bytes.buffer)];
  let errno = 0;
  const refuse = (number: number) => {
    errno = number;
    return -1;
  };
  const scripted: PrivilegeCalls = {
    prctl: (option, a, b) => {
      calls.push(['prctl', option, a, b]);
      if (option === 24 && a > 40) return refuse(22);
      return option === fails.prctl ? refuse(fails.errno ?? 1) : 0;
    },
    capset: (header, data) => {
      calls.push(['capset', ...words(header), ...words(data)]);
      return fails.capset ? refuse(1) : 0;
    },
    setresuid: (...users) => {
      calls.push(['setresuid', ...users]);
      return fails.setresuid === 'all' ? refuse(1) : 0;
    },
    setresuidOfThread: (...users) => {
      calls.push(['setresuid of the thread', ...users]);
      return fails.setresuid === 'back' ? refuse(1) : 0;
    },
    faccessat: () => 0,
    fcntl: (fd, command, argument) => calls.push(['fcntl', fd, command, argument]),
    signal: (signal, handler) => calls.push(['signal', signal, handler]),
    execve: (path) => {
      calls.push(['execve', path]);
      return refuse(12);
    },
    errno: () => errno,
  };
  return { calls, scripted };
}

describe('privileges', () => {
  it('are read from /proc', () => {
    const status =
      'Name:\tnode\nUid:\t0\t0\t0\t0\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000003000\n' +
      'CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000001000\nNoNewPrivs:\t1\nSeccomp:\t0\n';
    expect(parsePrivileges(status)).toEqual({
      inheritable: 0n,
      permitted: all,
      effective: 0x3000n,
      bounding: all,
      ambient: 0x1000n,
      noNewPrivileges: true,
      root: true,
    });
    expect(parsePrivileges(status.replace('\t0\t0\t0\t0', '\t0\t1000\t0\t0')).root).toBe(false);
  });

  it('exceed a set when anything could bring more, by now or by another program', () => {
    const low = { ...root, permitted: kept, effective: kept, bounding: kept, ambient: 0n, noNewPrivileges: true };
    expect(exceeds(low, kept)).toBe(false);
    expect(exceeds({ ...low, bounding: all }, kept)).toBe(true);
    expect(exceeds({ ...low, inheritable: 1n }, kept)).toBe(true);
    expect(exceeds({ ...low, noNewPrivileges: false }, kept)).toBe(true);
    expect(exceeds(root, kept)).toBe(true);
  });

  it('are lowered: every other one out of the bounding and ambient set, no new ones, then the thread itself', () => {
    const { calls, scripted } = kernel();
    lowerTo(kept, root, scripted);
    const dropped = calls.filter(([name, option]) => name === 'prctl' && option === 24).map(([, , bit]) => bit);
    expect(dropped).not.toContain(CAPABILITIES.NET_ADMIN);
    expect(dropped).not.toContain(CAPABILITIES.NET_RAW);
    expect(dropped).toHaveLength(40); // 39 that there are, and the first that is not
    expect(calls).toContainEqual(['prctl', 47, 3, 21]);
    expect(calls.at(-2)).toEqual(['prctl', 38, 1, 0]);
    expect(calls.at(-1)).toEqual(['capset', 0x20080522, 0, 0x3000, 0x3000, 0, 0, 0, 0]);
  });

  it('are lowered where the bounding set may not be touched, too', () => {
    const { calls, scripted } = kernel({ prctl: 24, errno: 1 });
    lowerTo(kept, root, scripted);
    expect(calls.at(-1)?.[0]).toBe('capset');
  });

  it('are used less for a while, with the way back', () => {
    const { calls, scripted } = kernel();
    useOnly(kept, root, scripted);
    expect(calls).toEqual([['capset', 0x20080522, 0, 0x3000, 0xffffffff, 0, 0, 0x1ff, 0]]);
  });

  it('that cannot be lowered are an error that says what to do', () => {
    expect(() => lowerTo(kept, root, kernel({ capset: true }).scripted)).toThrow(
      'capset: EPERM: Operation not permitted; start with -drop-privileges=false',
    );
    expect(() => lowerTo(kept, root, kernel({ prctl: 38, errno: 22 }).scripted)).toThrow(/NO_NEW_PRIVS.*EINVAL/);
  });
});

describe('the other threads', () => {
  const plain = { ...root, ambient: 0n };

  it('become nobody, and this one root again, with what it had', () => {
    const { calls, scripted } = kernel();
    expect(disarmOthers(plain, scripted)).toBe(true);
    expect(calls).toEqual([
      ['prctl', 8, 1, 0],
      ['setresuid', 4e9, 4e9, 4e9],
      ['capset', 0x20080522, 0, 0xffffffff, 0xffffffff, 0, 0x1ff, 0x1ff, 0],
      ['setresuid of the thread', 0, 0, 0],
      ['prctl', 8, 0, 0],
    ]);
  });

  it.each([
    ['is not root', { ...plain, root: false }],
    ['has something ambient', root],
    ['has something inheritable', { ...plain, inheritable: 1n }],
  ])('are left alone where the process %s', (_what, has) => {
    const { calls, scripted } = kernel();
    expect(disarmOthers(has, scripted)).toBe(false);
    expect(calls).toEqual([]);
  });

  it('are left alone where it may not keep its capabilities, or become somebody else', () => {
    const locked = kernel({ prctl: 8 });
    expect(disarmOthers(plain, locked.scripted)).toBe(false);
    expect(locked.calls).toHaveLength(1);
    const { calls, scripted } = kernel({ setresuid: 'all' });
    expect(disarmOthers(plain, scripted)).toBe(false);
    expect(calls.at(-1)).toEqual(['prctl', 8, 0, 0]);
  });

  it('are an error when there is no way back', () => {
    expect(() => disarmOthers(plain, kernel({ setresuid: 'back' }).scripted)).toThrow(/^setresuid: EPERM/);
  });
});

describe('starting anew', () => {
  it('keeps the standard descriptors, lets no SIGUSR1 through, and says why it did not work', async () => {
    const { calls, scripted } = kernel();
    await expect(startAnew({ A: '1' }, scripted)).rejects.toThrow(/^execve .*: ENOMEM: Cannot allocate memory; /);
    expect(calls).toEqual([
      ['fcntl', 0, 2, 0],
      ['fcntl', 1, 2, 0],
      ['fcntl', 2, 2, 0],
      ['signal', 10, 1],
      ['signal', 15, 0],
      ['signal', 2, 0],
      ['execve', process.execPath],
    ]);
  });
});
