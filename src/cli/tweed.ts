#!/usr/bin/env node
import { holdSignals } from '../base/first-signals.js';

holdSignals(process.argv[2] === 'run');
void import('./tweed-main.js');
