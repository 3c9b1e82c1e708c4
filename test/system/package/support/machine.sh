#!/bin/sh
# Becomes systemd, process 1 of a machine that shares only the kernel, the network namespace that this was started in, and two
# directories with the test. Started by machine.ts in new namespaces of processes, mounts, names and IPC.
#
# Everything that it sees is its own, or cannot be written to: the root is an overlay whose upper layer is in memory and goes with
# it, /dev has what a daemon needs and no disk, the kernel's settings are read only (systemd would raise some at its start), and
# control groups begin at one that machine.ts removes. Of units it knows those that were made for it: none of the host's is started.
set -eu
# SCRATCH: an empty folder. FILES: laid over the root. GROUP: the control group's name. NODE. REGISTRY, RUN: directories to share.
if [ "${1-}" != inside ]; then
  read -r pid rest < /proc/self/stat # of the host's /proc
  mount -t tmpfs -o mode=755 machine "$SCRATCH"
  cd "$SCRATCH"
  mkdir group upper work root
  mount -t cgroup2 cgroup2 group
  mkdir "group/$GROUP"
  echo 0 > "group/$GROUP/cgroup.procs"
  echo "process $pid"
  exec unshare --cgroup sh "$0" inside
fi
cd "$SCRATCH"
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cp -a "$FILES/." root/
cd root
mkdir -p proc sys dev run tmp .host var/lib/registry
mount -t proc proc proc
for path in sys sysrq-trigger irq bus fs; do
  [ -e proc/$path ] || continue
  mount --bind proc/$path proc/$path
  mount -o remount,bind,ro proc/$path
done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/net dev/pts dev/shm
for device in null zero full random urandom tty net/tun; do
  : > dev/$device
  mount --bind /dev/$device dev/$device
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > dev/kmsg # a file: what systemd has to say is not the kernel's
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir run/tweed
mount --bind "$RUN" run/tweed
mount --bind "$REGISTRY" var/lib/registry
mkdir -p usr/local/bin
[ -e usr/local/bin/node ] || : > usr/local/bin/node
mount --bind "$NODE" usr/local/bin/node
pivot_root . .host
cd /
umount -l /.host
without=-sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog,-wake_alarm,-mac_admin,-mac_override,-audit_control
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=tweed-test \
  SYSTEMD_UNIT_PATH=/usr/lib/systemd/machine SYSTEMD_GENERATOR_PATH=/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/none \
  setpriv --bounding-set=$without /lib/systemd/systemd --system --unit=machine.target
