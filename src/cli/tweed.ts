#!/usr/bin/env node
import { holdSignals } from '../base/first-signals.js';

holdSignals(process.argv[2] === 'run');
await import('./tweed-main.js');
