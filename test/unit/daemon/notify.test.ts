import { afterEach, describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { ServiceManager } from '../../../src/daemon/notify.js';

afterEach(() => {
  vi.useRealTimers();
});

const manager = (environment: Record<string, string>) => {
  const sent: string[] = [];
  const send = (address: string, message: string) => void sent.push(`${address} ${message}`);
  return { sent, manager: new ServiceManager(environment, send, silentLogger()) };
};

describe('the service manager', () => {
  it('hears of every step', () => {
    const { sent, manager: systemd } = manager({ NOTIFY_SOCKET: '/run/systemd/notify' });
    systemd.status('waiting\nfor etcd');
    systemd.ready();
    systemd.stopping();
    expect(sent).toEqual([
      '/run/systemd/notify STATUS=waiting for etcd',
      '/run/systemd/notify READY=1',
      '/run/systemd/notify STOPPING=1',
    ]);
  });

  it('is told again that all is ready, when it could not be told', () => {
    vi.useFakeTimers();
    const sent: string[] = [];
    let full = true;
    const send = (_: string, message: string) => {
      if (full) throw new Error('EAGAIN');
      sent.push(message);
    };
    new ServiceManager({ NOTIFY_SOCKET: '@n' }, send, silentLogger()).ready();
    vi.advanceTimersByTime(1000);
    full = false;
    vi.advanceTimersByTime(5000);
    expect(sent).toEqual(['READY=1']);
  });

  it('keeps what forwarding depends on, in place of what it kept of the process before', () => {
    const stored: unknown[] = [];
    const send = (_: string, message: string, descriptors?: readonly number[]) =>
      void stored.push([message, descriptors]);
    const environment = { NOTIFY_SOCKET: '@n', LISTEN_FDNAMES: 'tun:old:old' };
    const systemd = new ServiceManager(environment, send, silentLogger());
    systemd.keep(
      new Map([
        ['tun', 5],
        ['udp', 6],
      ]),
    );
    systemd.keep(new Map());
    const message = (key: string, name: string, more = '') => `${key}=1\nFDNAME=${name}${more}`;
    expect(stored).toEqual([
      [message('FDSTOREREMOVE', 'tun'), undefined],
      [message('FDSTORE', 'tun', '\nFDPOLL=0'), [5]],
      [message('FDSTORE', 'udp', '\nFDPOLL=0'), [6]],
      [message('FDSTOREREMOVE', 'old'), undefined],
      [message('FDSTOREREMOVE', 'tun'), undefined],
      [message('FDSTOREREMOVE', 'udp'), undefined],
    ]);
  });

  it('keeps what comes before it lets go of what went, and what stays as it is', () => {
    const stored: string[] = [];
    const send = (_: string, message: string) => void stored.push(message.replaceAll('\n', ' '));
    const systemd = new ServiceManager({ NOTIFY_SOCKET: '@n' }, send, silentLogger());
    const kept = (...names: string[]) => new Map(names.map((name, i) => [name, i]));
    systemd.keep(kept('tun', 'link,1'));
    stored.length = 0;
    systemd.follow(kept('tun', 'link,1'));
    expect(stored).toEqual([]);
    systemd.follow(kept('tun', 'link,2'));
    systemd.follow(kept('tun'));
    expect(stored).toEqual([
      'FDSTORE=1 FDNAME=link,2 FDPOLL=0',
      'FDSTOREREMOVE=1 FDNAME=link,1',
      'FDSTOREREMOVE=1 FDNAME=link,2',
    ]);
  });

  it('is not looked for where there is none', () => {
    const { sent, manager: none } = manager({ WATCHDOG_USEC: '1000' });
    none.ready();
    none.stopping();
    expect(sent).toEqual([]);
  });

  it('is not told that all is well while what it watches over is not', () => {
    vi.useFakeTimers();
    const { sent, manager: systemd } = manager({ NOTIFY_SOCKET: '@n', WATCHDOG_USEC: '2000000' });
    let complaint = '';
    systemd.watchOver(() => complaint);
    vi.advanceTimersByTime(1000);
    complaint = 'a forwarder has not moved for 12 s';
    vi.advanceTimersByTime(5000);
    expect(sent).toEqual(['@n WATCHDOG=1']);
    complaint = '';
    vi.advanceTimersByTime(1000);
    expect(sent).toHaveLength(2);
  });

  it('is told twice per watchdog period that the daemon lives, until it stops', () => {
    vi.useFakeTimers();
    const { sent, manager: systemd } = manager({ NOTIFY_SOCKET: '@n', WATCHDOG_USEC: '2000000' });
    vi.advanceTimersByTime(3000);
    expect(sent).toEqual(['@n WATCHDOG=1', '@n WATCHDOG=1', '@n WATCHDOG=1']);
    systemd.stopping();
    vi.advanceTimersByTime(3000);
    expect(sent.length).toBe(4);
  });

  it('is not told when the watchdog is meant for another process', () => {
    vi.useFakeTimers();
    const { sent } = manager({ NOTIFY_SOCKET: '@n', WATCHDOG_USEC: '2000000', WATCHDOG_PID: '1' });
    vi.advanceTimersByTime(3000);
    expect(sent).toEqual([]);
  });

  it('may be gone: the daemon goes on', () => {
    const send = () => {
      throw new Error('nobody listens');
    };
    const systemd = new ServiceManager({ NOTIFY_SOCKET: '@n' }, send, silentLogger());
    expect(() => systemd.ready()).not.toThrow();
  });
});
