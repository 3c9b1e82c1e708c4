import { describe, expect, it } from 'vitest';
import { Guide, TourError, type TourLab } from '../../../src/lab/tour/guide.js';
import { chooseStops, formatStops, formatTourResult, tourStops } from '../../../src/lab/tour/tour.js';

/** A lab in which every command prints its own words, and one with `false` in it fails. */
function fakeLab(): { lab: TourLab; ran: string[] } {
  const ran: string[] = [];
  const lab = {
    name: 'tour',
    files: { runFolder: (host: string) => `/run/of/${host}` },
    exec: async (place: string, argv: readonly string[]) => {
      ran.push(`${place}: ${argv.join(' ')}`);
      return { status: argv.includes('false') ? 1 : 0, stdout: `${argv.at(-1)}\n`, stderr: '' };
    },
    unpublish: async (host: string, port: number) => {
      ran.push(`unpublish ${host} ${port}`);
    },
    daemonPid: async () => 4711,
    stopDaemon: async (host: string) => {
      ran.push(`stop ${host}`);
    },
    startDaemon: async (host: string) => {
      ran.push(`start ${host}`);
    },
    waitForPeers: async () => {},
  };
  return { lab: lab as unknown as TourLab, ran };
}

describe('the guide of the tour', () => {
  it('shows a command as it is typed with what it printed, and runs tweed with the own daemon of the host', async () => {
    const { lab, ran } = fakeLab();
    const lines: string[] = [];
    const guide = new Guide(lab, (line) => lines.push(line));
    expect((await guide.run('host1/c1', 'ip route')).text).toBe('ip route');
    expect(lines).toEqual(['', 'host1/c1$ ip route', 'ip route']);
    await guide.run('host1', 'tweed status');
    expect(ran[0]).toBe('host1/c1: sh -c ip route');
    expect(ran[1]).toMatch(/^host1: \S+ \S+dist\/cli\/tweed\.cjs status --run-dir \/run\/of\/host1$/);
    await guide.run('host1', 'one\ntwo\nthree', 2);
    expect(lines.slice(-3)).toEqual(['one', 'two', '… and 1 more lines']);
    await guide.unpublish('host1:80');
    expect(lines.at(-1)).toBe('$ npm run lab -- unpublish --name tour host1:80');
  });

  it('counts what it told, and stops at what is not so', () => {
    const lines: string[] = [];
    const guide = new Guide(fakeLab().lab, (line) => lines.push(line));
    guide.notice('water is wet', true);
    expect(() => guide.notice('water is dry', false)).toThrow(TourError);
    expect(guide.claims).toBe(2);
    expect(lines).toEqual(['   → water is wet', '   ✗ water is dry']);
  });

  it('mends what it broke, also where a claim fails', async () => {
    const { lab, ran } = fakeLab();
    const guide = new Guide(lab, () => {});
    const work = async () => guide.notice('never', false);
    await expect(guide.broken('switch', 'break', 'mend', work)).rejects.toThrow('this is not so here: never');
    expect(ran).toEqual(['switch: sh -c break', 'switch: sh -c mend']);
    await expect(guide.withoutDaemon('host2', work)).rejects.toThrow(TourError);
    expect(ran.slice(2)).toEqual(['stop host2', 'start host2']);
  });
});

describe('the stops', () => {
  it('have names of their own, are listed, and are chosen by them in the order that is asked for', () => {
    expect(new Set(tourStops.map(({ name }) => name)).size).toBe(tourStops.length);
    expect(formatStops().split('\n')).toHaveLength(tourStops.length);
    expect(chooseStops([])).toBe(tourStops);
    expect(chooseStops(['vxlan', 'veth']).map(({ name }) => name)).toEqual(['vxlan', 'veth']);
    expect(() => chooseStops(['moon'])).toThrow(/"moon" is no stop of the tour; there are namespaces, veth/);
  });

  it('end with a sentence that says which told what is not so', () => {
    expect(formatTourResult({ walked: 2, claims: 9, failed: [] })).toBe('2 stops, 9 things told, and each was so');
    const failed = [{ name: 'veth', why: 'no cable' }];
    expect(formatTourResult({ walked: 2, claims: 3, failed })).toMatch(/^✗ veth: no cable\n1 of 2 stops told/);
  });
});
