import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import type { RulesOptions } from '../../../src/routes/rules/rules.js';
import { createTrafficRules, type RulesMode } from '../../../src/routes/rules/traffic-rules.js';
import { families } from '../../support/families.js';
import { makeNamespace, recording, type TestNamespace, unusableIptables } from './namespace.js';

const variants = await Promise.all(
  ['iptables-nft', 'iptables-legacy'].map(async (program) => ({ program, reason: await unusableIptables(program) })),
);

describe.each(families)('IPv$family', ({ family, say, prefix }) => {
  const options: RulesOptions = {
    network: prefix('10.5.0.0/16'),
    subnet: prefix('10.5.8.0/24'),
    masquerade: true,
    randomFully: true,
    forward: true,
  };

  /** Another overlay of this host, today's or of yesterday. */
  const other = { network: prefix('10.9.0.0/16'), subnet: prefix('10.9.3.0/24') };

  const natRules = [
    '-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN',
    say('-A FLANNEL-POSTRTG -s 10.5.8.0/24 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN'),
    say('-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.8.0/24 -m comment --comment "flanneld masq" -j RETURN'),
    say('-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.8.0/24 -m comment --comment "flanneld masq" -j RETURN'),
    say(
      '-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
    ),
    say(
      '-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
    ),
  ];
  const natJump = '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG';
  const forwardRules = [
    say('-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT'),
    say('-A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT'),
  ];
  const forwardJump = '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD';

  const nftTable = say(`table ip flannel-ipv4 {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr 10.5.0.0/16 accept
		ip daddr 10.5.0.0/16 accept
	}

	chain postrtg {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00004000 return
		ip saddr 10.5.8.0/24 ip daddr 10.5.0.0/16 return
		ip saddr 10.5.0.0/16 ip daddr 10.5.8.0/24 return
		ip saddr != 10.5.0.0/16 ip daddr 10.5.8.0/24 return
		ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random
	}
}
`);

  const strange = family === 4 ? '10.9.' : 'fd00:9:';
  const table = say('ip flannel-ipv4').split(' ');
  let host: TestNamespace;
  beforeEach(async () => {
    host = await makeNamespace();
  });
  afterEach(() => host.remove());

  for (const { program, reason } of variants) {
    describe.skipIf(reason !== null)(`${program}${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
      const tool = family === 4 ? program : program.replace('ip', 'ip6');
      const rules = (more: Partial<RulesOptions> = {}, mode: RulesMode = 'iptables') =>
        createTrafficRules(mode, { ...options, ...more }, { run: host.run, iptables: program });
      const list = async (table: string) =>
        (await host.print(`${tool}-save`, '-t', table)).split('\n').filter((line) => line.startsWith('-A'));

      it('makes flannel’s chains, and a second apply changes nothing', async () => {
        const made = await rules().apply();
        expect(await list('nat')).toEqual([natJump, ...natRules]);
        expect(await list('filter')).toEqual([forwardJump, ...forwardRules]);
        expect(made).toHaveLength(4);
        expect(await rules().apply()).toEqual([]);
        expect(await rules().check()).toEqual([]);
      });

      it('keeps to what the options say', async () => {
        await rules({ masquerade: false }).apply();
        expect(await list('nat')).toEqual([]);
        expect(await list('filter')).toEqual([forwardJump, ...forwardRules]);
        await rules({ forward: false, randomFully: false }).apply();
        expect(await list('nat')).toEqual([natJump, ...natRules.map((rule) => rule.replace(' --random-fully', ''))]);
        expect(await list('filter')).toEqual([]);
        await rules({ forward: false, masquerade: false }).apply();
        expect(await list('nat')).toEqual([]);
        expect(await host.print(`${tool}-save`)).not.toContain('FLANNEL');
      });

      it('checks with one process when nothing is wrong, and mends with two', async () => {
        const { run, started } = recording(host.run);
        const watched = createTrafficRules('iptables', options, { run, iptables: program });
        await watched.apply();
        started.length = 0;
        await watched.check();
        expect(started).toEqual([`${tool}-save`]);
        started.length = 0;
        await host.run([tool, '-F', 'FLANNEL-FWD']);
        expect(await watched.check()).toHaveLength(1);
        expect(started).toEqual([`${tool}-save`, `${tool}-restore --noflush --wait=10`]);
      });

      it.each([
        ['a flushed table', [['-t', 'nat', '-F']]],
        ['a rule taken out', [['-t', 'nat', '-D', 'FLANNEL-POSTRTG', '2']]],
        ['a rule put in front', [['-t', 'nat', '-I', 'FLANNEL-POSTRTG', '-j', 'ACCEPT']]],
        ['a lost jump', [['-D', 'FORWARD', '1']]],
        ['a second jump', [['-I', 'FORWARD', '-m', 'comment', '--comment', 'flanneld forward', '-j', 'FLANNEL-FWD']]],
        ['everything flushed and deleted', [['-F'], ['-X'], ['-t', 'nat', '-F'], ['-t', 'nat', '-X']]],
      ])('mends %s in one check', async (_name, vandalism) => {
        const watched = rules();
        await watched.apply();
        for (const words of vandalism) await host.run([tool, ...words]);
        expect(await list('nat').then(async (nat) => [...nat, ...(await list('filter'))])).not.toEqual([
          natJump,
          ...natRules,
          forwardJump,
          ...forwardRules,
        ]);
        expect((await watched.check()).length).toBeGreaterThan(0);
        expect(await list('nat')).toEqual([natJump, ...natRules]);
        expect(await list('filter')).toEqual([forwardJump, ...forwardRules]);
        expect(await watched.check()).toEqual([]);
      });

      it('shares its chains with another overlay, and each mends and removes only its own', async () => {
        const both = [rules(), rules(other)];
        for (const one of both) await one.apply();
        const settled = [await list('nat'), await list('filter')];
        for (const one of [...both, ...both]) expect(await one.check()).toEqual([]);
        expect(settled.flat()).toEqual(expect.arrayContaining([...natRules, ...forwardRules]));
        expect(settled.flat().filter((rule) => rule.includes(strange))).toHaveLength(7);
        // flanneld of the other network deletes all of its own and appends them, its mark rule too, when one is missing
        for (const rule of [...settled.flat()].filter(
          (one) => one.includes(say('10.9.0.0/16 -m')) && one.includes('FWD'),
        )) {
          const words = rule.replaceAll('"flanneld forward"', 'flanneld_forward').split(' ');
          const restored = words.map((word) => word.replace('_', ' '));
          await host.run([tool, '-D', ...restored.slice(1)]);
          await host.run([tool, ...restored]);
        }
        for (const one of both) expect(await one.check()).toEqual([]);
        await host.run([tool, '-F', 'FLANNEL-FWD']);
        for (const one of both) expect(await one.check()).toHaveLength(1);
        for (const one of both) expect(await one.check()).toEqual([]);
        await rules(other).cleanUp();
        expect(await list('nat')).toEqual([natJump, ...natRules]);
        expect(await list('filter')).toEqual([forwardJump, ...forwardRules]);
        expect(await rules().check()).toEqual([]);
        await rules().cleanUp();
        expect(await host.print(`${tool}-save`)).not.toMatch(/FLANNEL|flanneld/);
      });

      it('has its jump before a rule that refuses everything', async () => {
        const established = '-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT';
        const reject = say('-A FORWARD -j REJECT --reject-with icmp-host-prohibited');
        for (const rule of [established, reject]) await host.run([tool, ...rule.split(' ')]);
        expect(await rules().apply()).toContain(
          `${tool}: added the jump from FORWARD to filter FLANNEL-FWD, before ${reject.slice(3)}`,
        );
        expect(await list('filter')).toEqual([established, forwardJump, reject, ...forwardRules]);
        expect(await rules().check()).toEqual([]);
        await host.run([tool, '-I', 'FORWARD', '1', ...reject.split(' ').slice(2)]);
        expect(await rules().check()).toHaveLength(2); // removed, and added before it
        expect((await list('filter')).slice(0, 3)).toEqual([forwardJump, reject, established]);
        expect(await rules().check()).toEqual([]);
      });

      it('removes the rules of an earlier network and of flannel before it had chains, and nothing else', async () => {
        const foreign = [
          say('-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE'),
          say('-A POSTROUTING -s 10.5.0.0/16 -m comment --comment "not \\"ours\\"" -j RETURN'),
        ];
        const old = [
          say('-A POSTROUTING -s 10.9.0.0/16 -d 10.9.0.0/16 -m comment --comment "flanneld masq" -j RETURN'),
          say('-A POSTROUTING -s 10.9.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE'),
        ];
        await host.run([`${tool}-restore`], {
          input: [
            '*nat',
            ':ELSE - [0:0]',
            foreign[0],
            ...old,
            foreign[1],
            '-A ELSE -j RETURN',
            'COMMIT',
            '*filter',
            ':FORWARD DROP [0:0]',
            say('-A FORWARD -s 10.9.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT'),
            '-A FORWARD -i eth0 -j ACCEPT',
            'COMMIT',
            '',
          ].join('\n'),
        });
        await rules(other).apply();
        await rules({ formerNetworks: [other.network] }).apply();
        expect(await list('nat')).toEqual([...foreign, natJump, '-A ELSE -j RETURN', ...natRules]);
        expect(await list('filter')).toEqual(['-A FORWARD -i eth0 -j ACCEPT', forwardJump, ...forwardRules]);
        expect(await host.print(`${tool}-save`)).toContain(':FORWARD DROP');
        await rules().cleanUp();
        expect(await list('nat')).toEqual([...foreign, '-A ELSE -j RETURN']);
        expect(await list('filter')).toEqual(['-A FORWARD -i eth0 -j ACCEPT']);
        expect(await host.print(`${tool}-save`)).not.toContain('FLANNEL');
      });

      it('leaves nothing behind when the mode changes, in either direction', async () => {
        await rules().apply();
        await rules({}, 'nftables').apply();
        expect(await host.print(`${tool}-save`)).not.toMatch(/FLANNEL|flanneld/);
        expect(await host.print('nft', 'list', 'table', ...table)).toBe(nftTable);
        await rules().apply();
        expect(await host.print('nft', 'list', 'tables')).not.toContain('flannel');
        expect(await list('nat')).toEqual([natJump, ...natRules]);
      });

      it('removes what the other variant of iptables has', async () => {
        const other = program === 'iptables-nft' ? 'iptables-legacy' : 'iptables-nft';
        const otherTool = tool
          .replace(program, other)
          .replace(tool.slice(tool.indexOf('-')), other.slice(other.indexOf('-')));
        await createTrafficRules('iptables', options, { run: host.run, iptables: other }).apply();
        await rules().apply();
        expect(await host.print(`${otherTool}-save`)).not.toContain('FLANNEL');
        expect(await list('filter')).toEqual([forwardJump, ...forwardRules]);
      });

      it('says what is missing', async () => {
        const withoutPrivilege = createTrafficRules('iptables', options, {
          iptables: program,
          run: (argv, more) => {
            const words = ['capsh', '--drop=cap_net_admin,cap_net_raw', '--', '-c', 'exec "$0" "$@"'];
            return host.run(argv.includes('--version') ? argv : [...words, ...argv], more);
          },
        });
        await expect(withoutPrivilege.apply()).rejects.toThrow(/with CAP_NET_ADMIN and CAP_NET_RAW/);
        const missing = createTrafficRules('iptables', options, { iptables: 'iptables-none', run: exec });
        await expect(missing.apply()).rejects.toMatchObject({ code: 'RULES_TOOL_MISSING' });
        await expect(missing.apply()).rejects.toThrow(/apt-get install iptables/);
      });
    });
  }

  describe('nftables', () => {
    const rules = (more: Partial<RulesOptions> = {}) =>
      createTrafficRules('nftables', { ...options, ...more }, { run: host.run });
    const list = () => host.print('nft', 'list', 'table', ...table);

    it('makes the table, and a second apply changes nothing, not even handles', async () => {
      expect(await rules().apply()).toHaveLength(2);
      expect(await list()).toBe(nftTable);
      const handles = await host.print('nft', '-a', 'list', 'table', ...table);
      expect(await rules().apply()).toEqual([]);
      expect(await host.print('nft', '-a', 'list', 'table', ...table)).toBe(handles);
    });

    it('checks with one process when nothing is wrong, and mends with two', async () => {
      const { run, started } = recording(host.run);
      const watched = createTrafficRules('nftables', options, { run });
      await watched.apply();
      started.length = 0;
      expect(await watched.check()).toEqual([]);
      expect(started).toEqual([say('nft -j list table ip flannel-ipv4')]);
      await host.run(['nft', 'delete', 'table', ...table]);
      started.length = 0;
      expect(await watched.check()).toHaveLength(2);
      expect(started).toEqual([say('nft -j list table ip flannel-ipv4'), 'nft -f -']);
      expect(await list()).toBe(nftTable);
    });

    it.each([
      ['a flushed ruleset', 'flush ruleset'],
      ['a flushed chain', say('flush chain ip flannel-ipv4 postrtg')],
      ['a deleted chain', say('flush chain ip flannel-ipv4 forward; delete chain ip flannel-ipv4 forward')],
      ['a rule put in front', say('insert rule ip flannel-ipv4 postrtg accept')],
      ['a policy of drop', say('add chain ip flannel-ipv4 forward { policy drop; }')],
      [
        'a chain on another hook',
        say('flush chain ip flannel-ipv4 forward; delete chain ip flannel-ipv4 forward; ') +
          say('add chain ip flannel-ipv4 forward { type filter hook input priority 0; }'),
      ],
    ])('mends %s in one check', async (_name, vandalism) => {
      const watched = rules();
      await watched.apply();
      await host.run(['nft', '-f', '-'], { input: vandalism });
      expect((await watched.check()).length).toBeGreaterThan(0);
      const [forward, postrtg] = nftTable.split(/\n\n|(?<=\{\n)(?=\tchain)/).slice(1) as [string, string];
      expect(await list()).toContain(forward);
      expect(await list()).toContain(postrtg.slice(0, -2));
      expect(await watched.check()).toEqual([]);
    });

    it('replaces the rules of an earlier network and leaves other tables and unknown chains in peace', async () => {
      await host.run(['nft', '-f', '-'], { input: 'add table inet other; add chain inet other c' });
      await rules(other).apply();
      await rules({ formerNetworks: [other.network] }).apply();
      expect(await list()).toBe(nftTable);
      await host.run(['nft', 'add', 'chain', ...table, 'mine']);
      await rules({ masquerade: false }).apply();
      expect(await list()).not.toContain(strange);
      expect(await list()).not.toContain('postrtg');
      expect(await list()).toContain('chain mine');
      await rules().cleanUp();
      expect((await list()).replaceAll(/\s/g, '')).toBe(`table${table.join('')}{chainmine{}}`);
      await host.run(['nft', 'delete', 'chain', ...table, 'mine']);
      await rules().apply();
      await rules().cleanUp();
      expect((await host.print('nft', 'list', 'tables')).trim()).toBe('table inet other');
    });

    it('shares its chains with another overlay, and each mends and removes only its own', async () => {
      const both = [rules(), rules(other)];
      for (const one of both) await one.apply();
      const settled = await list();
      for (const one of [...both, ...both]) expect(await one.check()).toEqual([]);
      expect(settled.match(/10\.9\.3\.0|fd00:9:0:3::/g)).toHaveLength(3);
      await host.run(['nft', 'flush', 'chain', ...table, 'forward']);
      for (const one of both) expect(await one.check()).toHaveLength(1);
      expect(await list()).toBe(settled);
      await host.run(['nft', 'delete', 'table', ...table]);
      for (const one of both) expect(await one.check()).toHaveLength(2);
      expect(await list()).toBe(settled);
      await rules(other).cleanUp();
      expect(await list()).toBe(nftTable);
      expect(await both[0]?.check()).toEqual([]);
      await rules().cleanUp();
      expect(await host.print('nft', 'list', 'tables')).toBe('');
    });

    it('says what is missing', async () => {
      const missing = createTrafficRules('nftables', options, {
        run: (argv, more) => exec(argv[0] === 'nft' ? ['nft-none'] : ['ip', 'netns', 'exec', host.name, ...argv], more),
      });
      await expect(missing.apply()).rejects.toThrow(/install the package nftables/);
      const withoutPrivilege = createTrafficRules('nftables', options, {
        run: (argv, more) => host.run(['capsh', '--drop=cap_net_admin', '--', '-c', 'exec "$0" "$@"', ...argv], more),
      });
      await expect(withoutPrivilege.apply()).rejects.toMatchObject({ code: 'RULES_NOT_PERMITTED' });
    });
  });
});
