import { experimental, logVerbosity } from '@grpc/grpc-js';
import { GRPCUnavailableError } from 'etcd3';
import { afterAll, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { EtcdConnection } from '../../../src/subnet/etcd/etcd-connection.js';
import { grpcLogsTo } from '../../../src/subnet/etcd/grpc-log.js';
import { recordingLogger } from '../../support/manager-harness.js';

const endpoints = ['http://127.0.0.1:2379'];

describe('a connection to etcd', () => {
  afterAll(() => grpcLogsTo(silentLogger()));

  it.each([
    ['No connection established. Last error: undefined. Resolution note: ', 'for a reason that is not known'],
    ['', 'GRPCUnavailableError|Error'],
    ['No connection established. Last error: Error: connect ECONNREFUSED', ': connect ECONNREFUSED;'],
  ])('has a text for every failure: %j', async (text, expected) => {
    const connection = new EtcdConnection({ endpoints }, silentLogger());
    const work = () => Promise.reject(new GRPCUnavailableError(text));
    await expect(connection.request(work)).rejects.toThrow(new RegExp(expected));
  });

  it('writes what gRPC has to say into the log', () => {
    const { log, lines } = recordingLogger();
    new EtcdConnection({ endpoints }, log);
    experimental.log(logVerbosity.ERROR, 'something', 42);
    expect(lines).toEqual([{ level: 'warn', message: 'gRPC: something 42', fields: {} }]);
  });
});
