import { describe, expect, it } from 'vitest';
import { creation, incompatibility, vtepChanges, type WantedVtep } from '../../../src/backend/vxlan/device.js';
import { type LinkState, linkState } from '../../../src/routes/links.js';
import { families } from '../../support/families.js';

describe.each(families)('IPv$family', ({ family, say, prefix, address }) => {
  const localKey = family === 4 ? 'local' : 'local6';
  const groupKey = family === 4 ? 'group' : 'group6';
  const wanted: WantedVtep = {
    name: say('flannel.1'),
    vni: 1,
    underlay: 'eth0',
    local: address('192.0.2.1'),
    port: 8472,
    gbp: false,
    learning: false,
    mac: 'c6:d2:32:6f:8f:44',
    mtu: 1450,
    addresses: [prefix('10.5.8.0/32')],
    networks: [prefix('10.5.0.0/16')],
  };

  /** As `ip -json -details address show` of iproute2 6.1 on Linux 6.18 prints it, shortened. */
  const printed = say({
    ifindex: 4,
    ifname: 'flannel.1',
    flags: ['BROADCAST', 'MULTICAST', 'UP', 'LOWER_UP'],
    mtu: 1450,
    txqlen: 1000,
    link_type: 'ether',
    address: 'c6:d2:32:6f:8f:44',
    linkinfo: {
      info_kind: 'vxlan',
      info_data: { id: 1, [localKey]: '192.0.2.1', link: 'eth0', port: 8472, learning: false },
    },
    addr_info: [{ family: 'inet', local: '10.5.8.0', prefixlen: family === 4 ? 32 : 128, scope: 'global' }],
  });
  const right = linkState(printed);
  const withData = (data: Partial<LinkState['data']>): LinkState => ({ ...right, data: { ...right.data, ...data } });

  describe('the VXLAN device', () => {
    it('is made with its MAC, so that systemd leaves that alone', () => {
      expect(creation(wanted).join(' ')).toBe(
        say(
          'link add flannel.1 address c6:d2:32:6f:8f:44 type vxlan id 1 dev eth0 local 192.0.2.1 dstport 8472 nolearning',
        ),
      );
      expect(
        creation({ ...wanted, vni: 9, port: 4789, learning: true, gbp: true })
          .slice(6)
          .join(' '),
      ).toBe(say('vxlan id 9 dev eth0 local 192.0.2.1 dstport 4789 learning gbp'));
    });

    it('that is right is kept and needs nothing', () => {
      expect(incompatibility(right, wanted)).toBe('');
      expect(vtepChanges(wanted, right)).toEqual([]);
    });

    it.each([
      [{ id: 2 }, 'its VNI is 2 instead of 1'],
      [{ link: 'eth1' }, 'its interface is eth1 instead of eth0'],
      [{ [localKey]: '192.0.2.9' }, 'its local address is 192.0.2.9 instead of 192.0.2.1'],
      [{ port: 4789 }, 'its port is 4789 instead of 8472'],
      [{ gbp: true }, 'its GBP is true instead of false'],
      [{ [groupKey]: '239.1.1.1' }, 'its multicast group is 239.1.1.1 instead of none'],
      [{ l2miss: true }, 'its l2miss is true instead of false'],
      [{ external: true }, 'its external is true instead of false'],
    ])('with %j cannot be kept', (data, reason) => {
      expect(incompatibility(withData(say(data)), wanted)).toBe(say(reason));
    });

    it.each<[string, LinkState, string[]]>([
      [
        'another MAC',
        { ...right, hardwareAddress: '02:00:00:00:00:01' },
        ['link set dev flannel.1 address c6:d2:32:6f:8f:44'],
      ],
      ['learning on', withData({ learning: true }), ['link set dev flannel.1 type vxlan nolearning']],
      ['another MTU', { ...right, mtu: 1400 }, ['link set dev flannel.1 mtu 1450']],
      [
        'no address',
        { ...right, addresses: [] },
        [`address add 10.5.8.0/32 scope global dev flannel.1${family === 4 ? '' : ' nodad'}`],
      ],
      [
        'the address of a former subnet, and a foreign one',
        { ...right, addresses: [prefix('10.5.9.0/32'), prefix('198.51.100.1/32'), prefix('10.5.8.0/32')] },
        ['address del 10.5.9.0/32 dev flannel.1'],
      ],
      ['it down', { ...right, up: false }, ['link set dev flannel.1 up']],
    ])('with %s is put right', (_name, state, commands) => {
      expect(incompatibility(state, wanted)).toBe('');
      expect(vtepChanges(wanted, state).map(({ command }) => command)).toEqual(say(commands));
    });
  });
});
