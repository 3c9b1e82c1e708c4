#!/usr/bin/env node
// For health checks, which come every few seconds for the life of a container: ends with 0 when the overlay is up, else
// with 1. Costs little more than the start of Node. The argument names the daemon's run directory, or its socket where
// several daemons share the directory; without one TWEED_RUN_DIR does, which the daemon reads too.
import { askReady } from '../observe/ask-ready.js';

void askReady(process.argv[2] || process.env.TWEED_RUN_DIR || '/run/tweed').then(({ ready, text }) => {
  process.stdout.write(text);
  process.exitCode = ready ? 0 : 1;
});
