#!/usr/bin/env node
// For health checks, which come every few seconds for the life of a container: ends with 0 when the overlay is up, else
// with 1. Costs little more than the start of Node. TWEED_RUN_DIR names the run directory where it is another one.
import path from 'node:path';
import { SOCKET_NAME } from '../observe/socket-names.js';
import { askUnix } from '../observe/unix-http.js';

const socket = path.join(process.env.TWEED_RUN_DIR || '/run/tweed', SOCKET_NAME);
const answer = await askUnix(socket, 'GET', '/ready').catch((error: Error) => ({
  status: 0,
  body: `${error.message}\n`,
}));
process.stdout.write(answer.body);
process.exitCode = answer.status === 200 ? 0 : 1;
