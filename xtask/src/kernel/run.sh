# In the emulated machine, with the host's programs: the kernel's modules, then the tests. Variables come before this text.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root FERRULE_LAB_DATAPATH=system
export FERRULE_SKIP_REPORT=/run/skipped
say() { echo "[$(cut -d' ' -f1 /proc/uptime) s after the boot] $*"; }
mkdir -p /lib/modules /dev/shm /dev/pts
mount --bind "$MODULES" /lib/modules
mount -t tmpfs shm /dev/shm
mount -t devpts devpts /dev/pts
ip link set lo up
code=0
modprobe -a openvswitch geneve || code=1
say "modules openvswitch and geneve are loaded; $(ovs-vswitchd --version | head -n 1)"
for test in $TESTS; do
    say "test $(basename "${test%-*}")"
    "$test" --nocapture --test-threads=1 || code=2
done
if [ -s "$FERRULE_SKIP_REPORT" ]; then
    cat "$FERRULE_SKIP_REPORT"
    code=2
fi
say "done"
echo "ferrule-kernel ends with $code"
echo o >/proc/sysrq-trigger
# The first process must not end before the machine does.
while :; do :; done
