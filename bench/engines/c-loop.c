/*
 * The yardstick: what a tunnel on this wire format costs when it is written as plainly as can be, in C. One thread,
 * poll, one packet per system call: read from the TUN and sendto, recv and write to the TUN. The only work on a packet
 * is what every router must do: take one off the TTL and patch the header checksum (RFC 1624).
 *
 * Usage: c-loop DEVICE OWN-ADDRESS PEER-ADDRESS PORT. Makes the device, then says "ready" on standard output.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIN_HEADER 20
#define TTL 8
#define CHECKSUM 10

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int open_tun(const char *name) {
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail("/dev/net/tun");
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
  return fd;
}

static struct sockaddr_in make_address(const char *text, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, text, &address.sin_addr) != 1) {
    fprintf(stderr, "%s is no IPv4 address\n", text);
    exit(1);
  }
  return address;
}

/* Returns 0 for what is no IPv4 packet or has no hop left. */
static int forwardable(uint8_t *packet, ssize_t length) {
  if (length < MIN_HEADER || packet[0] >> 4 != 4 || packet[TTL] <= 1) return 0;
  uint32_t sum = (uint32_t)(packet[CHECKSUM] << 8 | packet[CHECKSUM + 1]) + 0x0100;
  sum = sum >= 0xffff ? sum - 0xffff : sum;
  packet[TTL]--;
  packet[CHECKSUM] = (uint8_t)(sum >> 8);
  packet[CHECKSUM + 1] = (uint8_t)sum;
  return 1;
}

int main(int count, char **arguments) {
  static uint8_t packet[65536];
  if (count != 5) {
    fprintf(stderr, "usage: c-loop DEVICE OWN-ADDRESS PEER-ADDRESS PORT\n");
    return 2;
  }
  struct sockaddr_in own = make_address(arguments[2], arguments[4]);
  struct sockaddr_in peer = make_address(arguments[3], arguments[4]);
  int tun = open_tun(arguments[1]);
  int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  /* as large as the daemon's, so that buffers are no difference between them; refused without CAP_NET_ADMIN */
  int buffer = 7 << 20;
  setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  if (udp < 0 || bind(udp, (struct sockaddr *)&own, sizeof own) < 0) fail("bind");
  puts("ready");
  fflush(stdout);

  struct pollfd waiting[2] = {{.fd = tun, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
  for (;;) {
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) fail("poll");
    int active = 1;
    while (active) {
      active = 0;
      ssize_t length = read(tun, packet, sizeof packet);
      if (length > 0) {
        active = 1;
        if (forwardable(packet, length)) sendto(udp, packet, (size_t)length, 0, (struct sockaddr *)&peer, sizeof peer);
      }
      length = recv(udp, packet, sizeof packet, 0);
      if (length >= 0) {
        active = 1;
        /* what the device does not take is lost, as on any full queue */
        if (forwardable(packet, length) && write(tun, packet, (size_t)length) < 0 && errno == EBADFD) fail("write");
      }
    }
  }
}
