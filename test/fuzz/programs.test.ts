import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iptablesChains } from '../../src/operator/doctor/firewall/iptables-rules.js';
import { nftablesChains } from '../../src/operator/doctor/firewall/nftables-rules.js';
import type { Packet } from '../../src/operator/doctor/firewall/packet.js';
import { walk } from '../../src/operator/doctor/firewall/walk.js';
import { parseBatchErrors, parseIpJson } from '../../src/routes/ip.js';
import { parseReach } from '../../src/routes/on-link.js';
import {
  canonicalRule,
  parseSavedRules,
  refusesEverything,
  ruleAddresses,
  ruleComment,
  ruleTarget,
} from '../../src/routes/rules/iptables-save.js';
import { parseNftablesRuleset } from '../../src/routes/rules/nftables-ruleset.js';
import { parseNftablesTable } from '../../src/routes/rules/rules-nftables.js';
import { fuzz, near, oddJson, oddObject, taken } from './support.js';

const saved = near(
  `# Table \`nat' is incompatible, use 'nft' tool.
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [12:34]
:FLANNEL-FWD - [0:0]
[1:2] -A FORWARD -m comment --comment "flanneld \\"forward\\"" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FORWARD ! -s 10.5.0.0/16 -j REJECT --reject-with icmp-host-prohibited
COMMIT
`,
);
const expression = fc.oneof(
  fc.constantFrom(
    '{"accept":null}',
    '{"drop":null}',
    '{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":8285}}',
  ),
  oddObject({
    match: '{"left":{"payload":{"field":"saddr"}},"right":{"prefix":{"addr":"10.5.0.0","len":16}}}',
    reject: 'null',
  }),
  oddObject({ left: '{"payload":{"field":"dport"}}', right: '{"set":[{"range":[1,2]},3]}' }).map(
    (match) => `{"match":${match}}`,
  ),
  oddJson,
);
const rule = fc
  .array(expression, { maxLength: 3 })
  .chain((list) => oddObject({ family: '"ip"', table: '"t"', chain: '"c"', handle: '1', expr: `[${list.join(',')}]` }));
const chain = oddObject({
  family: '"ip"',
  table: '"t"',
  name: '"c"',
  hook: '"forward"',
  policy: '"drop"',
  prio: '0',
  type: '"filter"',
});
const nft = fc
  .array(
    fc.oneof(
      chain.map((text) => `{"chain":${text}}`),
      rule.map((text) => `{"rule":${text}}`),
      oddJson,
    ),
    { maxLength: 5 },
  )
  .map((objects) => `{"nftables":[${objects.join(',')}]}`);
const routes = fc
  .array(oddObject({ dst: '"192.0.2.1"', dev: '"eth0"', gateway: '"192.0.2.254"', type: '"local"' }), { maxLength: 3 })
  .map((lines) => lines.map((line) => `[${line}]`).join('\n'));

const packet: Packet = {
  what: '',
  path: 'input',
  family: 4,
  inInterface: 'eth0',
  outInterface: null,
  sources: [],
  destinations: [{ low: 0xc0000201, high: 0xc0000203 }],
  protocol: 'udp',
  sourcePort: 1,
  destinationPort: 8285,
};

describe('a fuzz of what programs print', () => {
  fuzz('iptables-save', saved, 2000, (text) => {
    const rules = parseSavedRules(text);
    const { tables } = rules;
    for (const chain of iptablesChains({ program: 'iptables', rules }, 'input')) walk(chain, packet);
    for (const table of tables.values()) {
      for (const one of [...table.rules.values()].flat()) {
        canonicalRule(one);
        ruleComment(one);
        ruleTarget(one);
        ruleAddresses(one);
        refusesEverything(one, table);
      }
    }
  });

  fuzz('nft -j', fc.oneof(nft, near('{"nftables":[{"metainfo":{}},{"chain":{"name":"c"}}]}')), 2000, (text) => {
    taken(() => parseNftablesTable(text));
    taken(() => parseNftablesRuleset(text));
    for (const chain of taken(() => nftablesChains(text, text)) ?? []) walk(chain, packet);
  });

  fuzz('ip -json', fc.oneof(routes, near('[{"dst":"default","dev":"eth0"},{}]')), 2000, (text) => {
    taken(() => parseIpJson(text));
    for (const [address] of taken(() => parseReach(text)) ?? []) expect(address).toBeGreaterThanOrEqual(0);
  });

  fuzz(
    'the errors of ip -batch',
    near('Error: x\nCommand failed -:2\nRTNETLINK answers: y\nCommand failed -:99\n'),
    1000,
    (text) => {
      for (const { line } of parseBatchErrors(text, ['a', 'b'])) expect(line).toBeTypeOf('string');
    },
  );

  // Found by trying: thirty chains that each jump thirty times to the next were looked at 30^16 times.
  it('chains that lead to each other many times are looked at once', () => {
    const names = Array.from({ length: 30 }, (_, at) => `C${at}`);
    const jumps = names.flatMap((from) => names.map((to) => `-A ${from} -j ${to}`));
    const text = ['*filter', ...names.map((name) => `:${name} - [0:0]`), ...jumps, '-A C29 -j DROP'].join('\n');
    const table = parseSavedRules(text).tables.get('filter');
    expect(table && refusesEverything('-A FORWARD -j C0', table)).toBe(true);
    expect(table && refusesEverything('-A FORWARD -j NONE', table)).toBe(false);
  });
});
