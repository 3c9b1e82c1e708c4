# tweed as an image. `docker build -t tweed .` makes the daemon's own; `--target lab` adds what docker-compose.yml needs.

FROM node:20-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
# No package needs its install script: koffi brings its binaries, and nothing is compiled.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts scripts
COPY src src
RUN npm run --silent build \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
 && find dist node_modules -name '*.map' -delete \
 && find dist node_modules -name '*.d.ts' -delete \
 && find node_modules -type d -empty -delete \
 && rm -f dist/.tsbuildinfo dist/.built.json

# Debian and the node binary alone: npm, yarn and the rest of the node image are of no use to a daemon.
FROM debian:bookworm-slim AS daemon
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates iproute2 iptables iputils-ping libstdc++6 nftables tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
COPY --from=build /usr/local/bin/node /usr/local/bin/
COPY --from=build /build/package.json /opt/tweed/
COPY --from=build /build/node_modules /opt/tweed/node_modules
COPY --from=build /build/dist /opt/tweed/dist
COPY bin /opt/tweed/bin
RUN ln -s /opt/tweed/bin/tweed /usr/local/bin/tweed \
 && ln -s /opt/tweed/bin/tweed /usr/local/bin/flanneld
# tini reaps what is left of programs that the daemon runs, and passes signals on.
ENTRYPOINT ["tini", "--", "tweed"]
CMD ["run"]
# Not the command: this costs little more than the start of Node. The host may be so busy that even that takes seconds.
HEALTHCHECK --interval=10s --timeout=30s --start-period=30s --retries=3 CMD ["node", "/opt/tweed/dist/cli/health.cjs"]

# The compose lab's image: etcd from Debian, so that no other image is needed, and programs to look around with.
FROM daemon AS lab
RUN apt-get update \
 && apt-get install --yes --no-install-recommends etcd-client etcd-server iperf3 tcpdump \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log

# The last one is what a build without --target makes.
FROM daemon AS tweed
