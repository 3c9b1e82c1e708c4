import { setTimeout as delay } from 'node:timers/promises';
import { silentLogger } from '../../base/log.js';
import { openRegistry } from '../../subnet/open-registry.js';

/** Writes the network configuration, trying again until the registry answers or `timeout` milliseconds are over. */
export async function putNetworkConfig(endpoint: string, config: string, timeout: number): Promise<void> {
  const deadline = performance.now() + timeout;
  const registry = await openRegistry({ endpoints: [endpoint] }, silentLogger());
  try {
    for (;;) {
      try {
        return await registry.setConfig(config, null);
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await delay(50);
      }
    }
  } finally {
    await registry.close();
  }
}
