import { describe, expect, it } from 'vitest';
import { notInstalled } from '../../../src/lab/tools.js';

describe('programs that a lab lacks', () => {
  it('are named with the packages that they are in, once each', () => {
    expect(notInstalled(['tcpdump', 'ping', 'iptables-save'], false)).toBe(
      'not installed: tcpdump, ping, iptables-save; install them (Debian: apt-get install tcpdump iputils-ping iptables)',
    );
  });

  it('are installed by the script of a checkout, which an installed package does not have', () => {
    expect(notInstalled(['ip'], true)).toContain('npm run lab');
    expect(notInstalled(['ip'], false)).not.toContain('npm run lab');
  });
});
