import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runFlags } from '../../../src/cli/flag-table.js';
import { type Flag, HelpRequested, OptionError, resolveFlags } from '../../../src/cli/flags.js';

const resolvedIn = (argv: string[], name: string, environment: Record<string, string> = {}) =>
  resolveFlags(runFlags, argv, environment).get(name);

const complaint = (argv: string[], environment: Record<string, string> = {}): string => {
  try {
    resolveFlags(runFlags, argv, environment);
  } catch (error) {
    expect(error).toBeInstanceOf(OptionError);
    return (error as Error).message;
  }
  throw new Error(`no complaint about ${argv.join(' ')}`);
};

describe('flags in Go style', () => {
  it.each([
    [['-healthz-port', '8080']],
    [['--healthz-port', '8080']],
    [['-healthz-port=8080']],
    [['--healthz-port=8080']],
    [['--healthz-port=0x1f90']],
    [['--healthz-port=017620']],
    [['--healthz-port', '1', '--healthz-port', '8080']],
  ])('reads %j', (argv) => {
    expect(resolvedIn(argv, 'healthz-port')).toMatchObject({ value: 8080, origin: 'flag' });
  });

  it.each([
    [['-ip-masq'], true],
    [['--ip-masq'], true],
    [['-ip-masq=true'], true],
    [['-ip-masq=1'], true],
    [['-ip-masq=T'], true],
    [['-ip-masq=false'], false],
    [['-ip-masq', '-ip-masq=F'], false],
    [[], false],
  ])('reads the boolean %j', (argv, expected) => {
    expect(resolvedIn(argv, 'ip-masq')?.value).toBe(expected);
  });

  it('gathers repeated flags in order, values that begin with a dash or hold = included', () => {
    const argv = ['-iface=eth1', '--iface', '10.0.0.1', '--iface-regex', '-x=[12]', '--iface', 'eth0'];
    expect(resolvedIn(argv, 'iface')?.value).toEqual(['eth1', '10.0.0.1', 'eth0']);
    expect(resolvedIn(argv, 'iface-regex')?.value).toEqual(['-x=[12]']);
  });

  it('prefers the flag to the variable, the variable to the default, and ignores an empty variable', () => {
    const environment = { FLANNELD_ETCD_PREFIX: '/from/env' };
    expect(resolvedIn(['-etcd-prefix', '/from/flag'], 'etcd-prefix', environment)?.value).toBe('/from/flag');
    expect(resolvedIn([], 'etcd-prefix', environment)).toMatchObject({ value: '/from/env', origin: 'environment' });
    expect(resolvedIn([], 'etcd-prefix', { FLANNELD_ETCD_PREFIX: '' })).toMatchObject({
      value: '/coreos.com/network',
      origin: 'default',
    });
    expect(resolvedIn(['-etcd-prefix='], 'etcd-prefix', environment)).toMatchObject({ value: '', origin: 'flag' });
    expect(resolvedIn([], 'iface', { FLANNELD_IFACE: 'eth7' })?.value).toEqual(['eth7']);
    expect(resolvedIn([], 'v', { FLANNELD_V: '4' })?.value).toBe(4);
  });

  it('names the variable when its value is bad, even the one that a flag would have replaced is left alone', () => {
    expect(complaint([], { FLANNELD_HEALTHZ_PORT: 'http' })).toBe(
      'FLANNELD_HEALTHZ_PORT=http: the value must be a whole number',
    );
    expect(resolvedIn(['-healthz-port=1'], 'healthz-port', { FLANNELD_HEALTHZ_PORT: 'http' })?.value).toBe(1);
  });

  it.each([
    [['-subnet-lease-renew-margin=0'], 'must be 1 to 1439'],
    [['-subnet-lease-renew-margin=1440'], 'must be 1 to 1439'],
    [['-healthz-port=65536'], 'must be 0 to 65535'],
    [['-healthz-port=8o'], 'must be a whole number'],
    [['-public-ip=10.0.0'], 'must be an IPv4 address'],
    [['-iface-regex=('], 'must be a regular expression'],
    [['-etcd-endpoints=ftp://x'], 'must be a comma-separated list'],
    [['-etcd-endpoints=file:///a,http://b:1'], 'must be either one file://'],
    [['-etcd-endpoints=http://u:p@h:1'], 'must be without user and password'],
    [['-udp-gso=maybe'], 'must be one of auto, on, off'],
    [['-device=flannel/0'], 'must be a name for a network device'],
    [['-device=sixteen-letters-'], '1 to 15 bytes'],
    [['-device=ünïcödéünïcöd'], '1 to 15 bytes'],
    [['-public-ip=127.0.0.1'], 'must be an address that other hosts can send to; this is a loopback address'],
    [['-public-ip=0.0.0.0'], 'must be an address that other hosts can send to'],
    [['-public-ipv6=fe80::1'], 'this is a link-local address'],
    [['-device=all'], 'not all or default'],
    [['-ip-masq=yes'], 'must be true or false'],
    [['-run-dir=relative'], 'must be an absolute path'],
    [['-device='], 'must be a name for a network device'],
    [['-run-dir='], 'must be an absolute path'],
    [['-subnet-file='], 'must be the name of a file'],
    [['-iface=eth0,eth1'], 'must be the name or the address of one interface; repeat it to give another'],
    [['-etcd-endpoints=http://a:1,ftp://x,b'], '; "ftp://x" is none'],
    [['-etcd-endpoints=http://a:1/v2'], '; "http://a:1/v2" is none'],
    [['-etcd-endpoints=a:123456'], '; "a:123456" is none'],
    [['-etcd-endpoints=a b'], '; "a b" is none'],
    [['-etcd-endpoints=,'], 'must be a comma-separated list'],
    [['-etcd-endpoints='], 'must be a comma-separated list'],
    [['-udp-gso='], 'must be one of auto, on, off'],
    [['-socket-buffer=1073741824'], 'must be 4096 to 1073741823'],
  ])('refuses %j with its rule', (argv, rule) => {
    expect(complaint(argv)).toContain(rule);
  });

  it.each(['public-ip', 'public-ipv6', 'iface-can-reach', 'log-level'])('takes an empty -%s for none', (name) => {
    expect(resolvedIn([`-${name}=`], name)?.value).toBe('');
  });

  it('offers the nearest flag for an unknown one', () => {
    expect(complaint(['--etcd-endpoint=x'])).toBe('unknown flag -etcd-endpoint; did you mean -etcd-endpoints?');
    expect(complaint(['-ifcae', 'eth0'])).toBe('unknown flag -ifcae; did you mean -iface?');
    expect(complaint(['-zzzzzzzzzz'])).toBe('unknown flag -zzzzzzzzzz; see --help for those there are');
  });

  it('tells what a stray argument was probably meant to be', () => {
    expect(complaint(['-ip-masq', 'true'])).toContain('-ip-masq=true');
    expect(complaint(['eth0'])).toContain('unexpected argument "eth0"');
    expect(complaint(['-'])).toContain('unexpected argument');
    expect(complaint(['-iface'])).toContain('needs a value');
  });

  it('refuses what belongs to Kubernetes, by flag and by variable, unless it asks for nothing', () => {
    for (const argv of [['-kube-subnet-mgr'], ['--kubeconfig-file', '/x'], ['-set-node-network-unavailable=false']]) {
      expect(complaint(argv)).toContain('belongs to Kubernetes mode');
    }
    expect(complaint([], { FLANNELD_KUBE_SUBNET_MGR: 'true' })).toContain('belongs to Kubernetes mode');
    expect(resolvedIn(['-kube-subnet-mgr=false', '-kubeconfig-file='], 'kube-subnet-mgr')?.value).toBe(false);
  });

  it.each([['-h'], ['--help'], ['-help']])('%s asks for help', (argument) => {
    expect(() => resolveFlags(runFlags, [argument], {})).toThrow(HelpRequested);
  });

  it('keeps passwords out of complaints', () => {
    expect(complaint(['-etcd-endpoints=http://root:hunter2@h:1/path/x'])).not.toContain('hunter2');
    expect(complaint(['-etcd-endpoints=http://root:hun/ter2@h:1'])).not.toContain('ter2');
  });

  it('has a variable for every flag but the commands, and no name twice', () => {
    expect(new Set(runFlags.map(({ name }) => name)).size).toBe(runFlags.length);
    for (const flag of runFlags) {
      if (flag.group === 'command') continue;
      const prefix = flag.group === 'tweed' ? 'TWEED_' : 'FLANNELD_';
      // flannel reads it from the environment alone
      if (flag.name === 'wireguard-key-file') expect(flag.env).toBe('WIREGUARD_KEY_FILE');
      else expect(flag.env).toBe(prefix + flag.name.toUpperCase().replaceAll('-', '_'));
    }
  });

  it('reads back every text and every list, however it is written', () => {
    const table: Flag[] = [
      { name: 'text', kind: 'string', default: '', help: '', group: 'tweed' },
      { name: 'list', kind: 'strings', default: [], help: '', group: 'tweed' },
    ];
    const spellings = [
      (name: string, value: string) => [`-${name}=${value}`],
      (name: string, value: string) => [`--${name}=${value}`],
      (name: string, value: string) => [`-${name}`, value],
      (name: string, value: string) => [`--${name}`, value],
    ];
    const spelled = fc.tuple(fc.string({ unit: 'binary' }), fc.nat(3));
    fc.assert(
      fc.property(spelled, fc.array(spelled, { minLength: 1 }), ([text, how], list) => {
        const argv = [
          ...(spellings[how]?.('text', text) ?? []),
          ...list.flatMap(([value, spelling]) => spellings[spelling]?.('list', value) ?? []),
        ];
        const resolved = resolveFlags(table, argv, {});
        expect(resolved.get('text')?.value).toBe(text);
        expect(resolved.get('list')?.value).toEqual(list.map(([value]) => value));
      }),
    );
  });

  it('reads every number that it prints, in any base', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 65_535 }), (port) => {
        for (const text of [`${port}`, `0x${port.toString(16)}`, `0b${port.toString(2)}`, `0${port.toString(8)}`]) {
          expect(resolvedIn([`-healthz-port=${text}`], 'healthz-port')?.value).toBe(port);
        }
      }),
    );
  });
});
