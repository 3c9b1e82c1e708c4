/** These tests stop and kill what they find, so they run on an engine of their own only. */
export default function setup(): void {
  if (!process.env.DOCKER_HOST?.includes('/tweed-engine-')) {
    throw new Error('these tests need a Docker engine of their own; run `npm run test:docker`');
  }
}
