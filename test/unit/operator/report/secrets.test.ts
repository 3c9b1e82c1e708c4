import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { patient } from '../../../../src/lab/patience.js';
import { secretFilter, secretsIn } from '../../../../src/operator/report/secrets.js';

const key = Buffer.alloc(32, 0xa7).toString('base64');
const hidden = (text: string, secret: string, known: readonly string[] = []) =>
  expect(secretFilter(known)(text)).not.toContain(secret);

describe('what looks like a secret', () => {
  it.each([
    ['{"Backend":{"Type":"wireguard","PSK":"%"}}', 'JSON'],
    ['{"config":"{\\"Backend\\":{\\"PSK\\":\\"%\\"}}"}', 'JSON in JSON'],
    ['FLANNELD_ETCD_PASSWORD=%', 'a variable'],
    ["export FLANNELD_ETCD_PASSWORD='%'", 'a quoted variable'],
    ['ExecStart=/usr/bin/tweed run -etcd-password % -iface eth0', 'an argument'],
    ['tweed run --etcd-password=% -iface eth0', 'an argument with an equals sign'],
    ['PrivateKey = %', 'a file of wg'],
    ['  preshared key: %', 'what wg shows'],
    ['http://user:%@10.0.0.1:2379/health', 'a URL'],
    ['https://%@10.0.0.1:2379', 'a token as the user of a URL'],
    ['Authorization: Bearer %', 'a header'],
    ['"authorization": "Basic %"', 'a header in JSON'],
    ['grpc metadata {"token":"%"}', 'a token'],
    ['client_secret: %', 'a secret'],
  ])('is taken out: %s', (text) => hidden(text.replace('%', 'hunter2-Zq'), 'hunter2-Zq'));

  it('is a private key in PEM, also one that is cut off, and a token of JSON', () => {
    const pem = (end: string) => `before\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\nabcdef==\n${end}after`;
    expect(secretFilter([])(pem('-----END EC PRIVATE KEY-----\n'))).toBe('before\n***\nafter');
    expect(secretFilter([])(pem(''))).toBe('before\n***');
    hidden('jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln then', 'eyJzdWIi');
  });

  it('is nothing that a report is for', () => {
    const text = [
      'lease 100.96.42.0/24, UDP port 8285, MTU 1472',
      `peer: ${key}`, // a public key
      '-A INPUT -p udp -m udp --dport 8285 -j DROP',
      'wireguard-key-file  /run/flannel/wgkey  default',
      'registry etcd http://10.0.0.9:2379, connected',
      'net.ipv4.conf.all.rp_filter = 0',
    ].join('\n');
    expect(secretFilter([])(text)).toBe(text);
  });

  it('takes no time by the square of a line', () => {
    for (const unit of ['password', 'x', '"', '\\', '-a', '=', 'token:', '://', '@', '-----BEGIN PRIVATE KEY-----']) {
      const clean = secretFilter([key]);
      const time = (length: number) => {
        const text = unit.repeat(length / unit.length);
        const start = process.cpuUsage();
        clean(text);
        return process.cpuUsage(start).user;
      };
      expect(time(60_000)).toBeLessThan(patient(5_000_000));
    }
  });
});

describe('what is known to be secret here', () => {
  it('is taken out wherever it stands and however it is written', () => {
    const secret = 'p"a&s/ö';
    const texts = [
      `said ${secret} aloud`,
      JSON.stringify({ x: secret }),
      `http://a/?q=${encodeURIComponent(secret)}`,
      Buffer.from(secret).toString('base64'),
    ];
    for (const text of texts) expect(secretFilter([`${secret}\n`])(text)).toMatch(/\*\*\*/);
    expect(secretFilter([key])(`private_key=x ${Buffer.from(key, 'base64').toString('hex')}`)).not.toContain('a7a7');
  });

  it('leaves the words alone that a short one is a part of', () => {
    expect(secretFilter(['root'])('root@host is rooted in root')).toBe('***@host is rooted in ***');
  });

  it('never stands in what is left', () => {
    const secrets = fc
      .string({ minLength: 6, maxLength: 40 })
      .filter((text) => text.trim().length >= 6 && !text.includes('*'));
    fc.assert(
      fc.property(secrets, fc.string(), fc.string(), (secret, before, after) => {
        expect(secretFilter([secret])(`${before}${secret.trim()}${after}`)).not.toContain(secret.trim());
      }),
    );
  });

  it('is found in JSON by the name, at any depth', () => {
    const config = { Network: '10.5.0.0/16', Backend: { Type: 'wireguard', PSK: key, more: [{ token: 't' }] } };
    expect(secretsIn(config)).toEqual([key, 't']);
  });
});
