#!/usr/bin/env node
import { holdSignals } from '../base/first-signals.js';

holdSignals(true);
await import('./flanneld-main.js');
