/** For the commands, which know of daemons, but not of backends: what no daemon could start with need not be stored. */
export { checkBackendConfig } from '../backend/select.js';
