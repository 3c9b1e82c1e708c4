import { systemClock } from '../../../src/base/clock.js';
import { MemoryRegistry, MemoryStore } from '../../support/memory-registry.js';
import { registrySuite } from '../../support/registry-suite.js';

// The stand-in of the manager's tests must behave as the real ones do.
registrySuite('registry in memory', async () => {
  const store = new MemoryStore(systemClock);
  return {
    open: async () => new MemoryRegistry(store),
    writeRaw: async (key, value) => {
      if (value === null) store.delete(key);
      else store.put(key, value);
    },
    readRaw: async (key) => store.entries.get(key)?.value ?? null,
    forget: async () => {
      store.put('10.99.0.0-24', '{}');
      store.compact();
    },
    shortTtl: 0.1,
    destroy: async () => {},
  };
});
