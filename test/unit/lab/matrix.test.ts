import { describe, expect, it } from 'vitest';
import { type CheckName, formatMatrix, type MatrixPlace, runMatrix } from '../../../src/lab/matrix.js';
import type { Probe } from '../../../src/lab/probe/client.js';
import type { RequestName } from '../../../src/lab/probe/protocol.js';

/** A place whose probe answers as it is told, in place of real traffic. */
function place(name: string, address: string, broken: Partial<Record<CheckName, string>> = {}): MatrixPlace {
  const ask = async (request: RequestName, args: { bytes?: number }) => {
    if (request === 'ping') return { received: broken.ping === undefined, detail: broken.ping ?? '64 bytes' };
    if (request === 'transfer') {
      if (broken.tcp === 'lost') throw new Error('connection timed out');
      return { sentHash: 'a', receivedHash: broken.tcp ?? 'a', bytes: 8, milliseconds: 1, seenAs: address };
    }
    const large = (args.bytes as number) > 1000;
    const fault = large ? broken.large : broken.udp;
    return { returned: fault !== 'lost', tries: 1, seenAs: fault ?? address };
  };
  const probe = { ask, ports: async () => ({ tcp: 1, udp: 2 }) } as unknown as Probe;
  return { name, addresses: [address], probe };
}

describe('the matrix', () => {
  it('has every ordered pair once, in order', async () => {
    const result = await runMatrix(['a', 'b', 'c'].map((name, index) => place(name, `10.0.0.${index}`)));
    expect(result.ok).toBe(true);
    expect(result.pairs.map(({ from, to }) => from + to)).toEqual(['ab', 'ac', 'ba', 'bc', 'ca', 'cb']);
    expect(formatMatrix(result)).toContain('24 of 24 checks passed');
  });

  it('checks each family that both have, and is not right where there is none', async () => {
    const dual = (name: string, v4: string, v6: string, broken = {}) => {
      const [four, six] = [place(name, v4), place(name, v6, broken)];
      const ask = (request: RequestName, args: { address: string }) =>
        (args.address.includes(':') ? six : four).probe.ask(request, args as never);
      const probe = { ask, ports: async () => ({ tcp: 1, udp: 2 }) } as unknown as Probe;
      return { name, addresses: [v4, v6], probe };
    };
    const a = dual('a', '10.0.0.1', 'fd00::1');
    const whole = await runMatrix([a, dual('b', '10.0.0.2', 'fd00::2')]);
    expect(whole.pairs.map(({ from, family }) => `${from}${family}`)).toEqual(['a4', 'a6', 'b4', 'b6']);
    expect(formatMatrix(whole)).toContain('16 of 16 checks passed (ping, tcp, udp, large for each pair and family)');
    const torn = await runMatrix([a, dual('b', '10.0.0.2', 'fd00::2', { ping: 'unreachable' })]);
    expect(torn.ok).toBe(false);
    expect(formatMatrix(torn)).toContain('b → a by IPv6 ping: unreachable');
    expect(formatMatrix(torn)).toMatch(/✗ 6p/);
    expect((await runMatrix([place('a', '10.0.0.1'), place('b', 'fd00::2')])).ok).toBe(false);
  });

  it('tells each kind of failure', async () => {
    const result = await runMatrix([
      place('a', '10.0.0.1', { ping: 'Destination Net Unreachable', tcp: 'b', udp: 'lost', large: '192.168.0.1' }),
      place('b', '10.0.0.2', { tcp: 'lost' }),
    ]);
    expect(result.ok).toBe(false);
    const text = formatMatrix(result);
    expect(text).toContain('a → b ping: Destination Net Unreachable');
    expect(text).toContain('a → b tcp: other bytes arrived than were sent');
    expect(text).toContain('a → b udp: 100 bytes did not come back in 1 tries');
    expect(text).toContain('a → b large: it arrived from 192.168.0.1, not 10.0.0.1');
    expect(text).toContain('b → a tcp: connection timed out');
    expect(text).toContain('3 of 8 checks passed');
    expect(text).toMatch(/^a +· +✗ ptul$/m);
  });
});
