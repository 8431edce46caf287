#!/bin/busybox sh
# The first process of the emulated machine: the host's files, read-only, with a layer in memory above, as its root; then
# $FERRULE_RUN in it, which the kernel's command line names. Whatever happens, the machine ends.
/bin/busybox --install -s /bin
export PATH=/bin
say() { echo "[$(cut -d' ' -f1 /proc/uptime) s after the boot] $*"; }
end() {
    say "$*"
    poweroff -f
}
mkdir -p /proc /sys /dev /host /layer /above
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
say "Linux $(uname -r) is up, and takes up the host's files"
while read -r module; do
    insmod "/modules/$module" || end "the kernel does not take its module $module"
done </modules/order
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 host /host || end "the host's files cannot be mounted"
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /above || end "no layer can be put above the host's files"
mount -t tmpfs -o mode=755 run /above/run
mount --move /proc /above/proc
mount --move /sys /above/sys
mount --move /dev /above/dev
exec switch_root /above /bin/sh "$FERRULE_RUN"
