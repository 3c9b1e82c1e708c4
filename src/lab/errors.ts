import { TweedError } from '../base/errors.js';

/** What went wrong with a lab. The code is stable, the message ends with what to do. */
export class LabError extends TweedError {}
