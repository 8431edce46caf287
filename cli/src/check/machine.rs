//! What a machine says of itself, read from text: versions, modules, sockets, devices. Pure.

/// The numbers at the start of a version: `6.18.4-generic`, `ovs-vswitchd (Open vSwitch) 3.1.0`.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let digits = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a list of modules (`modules.dep`, `modules.builtin`) has one of this name.
pub fn has_module(list: &str, name: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split('.').next() == Some(name)
    })
}

/// The inode of the socket that listens on a port, by `/proc/net/udp`, `tcp` and their kin.
pub fn listener(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let held = u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok()?;
        // TCP: only listening sockets (0A); UDP has no such state.
        let state = *words.get(3)?;
        (held == port && matches!(state, "0A" | "07")).then(|| words.get(9)?.parse().ok()).flatten()
    })
}

/// The network that makes devices of this name.
pub fn foreign_device(name: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 12] = [
        ("flannel", "Flannel"),
        ("cilium", "Cilium"),
        ("lxc", "Cilium"),
        ("cali", "Calico"),
        ("vxlan.calico", "Calico"),
        ("tunl0@", "Calico"),
        ("weave", "Weave Net"),
        ("antrea", "Antrea"),
        ("ovn-k8s", "OVN-Kubernetes"),
        ("kube-bridge", "kube-router"),
        ("kube-ovn", "Kube-OVN"),
        ("cni0", "the bridge plugin (Flannel, k3s)"),
    ];
    KNOWN.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, network)| *network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read() {
        assert_eq!(version("6.18.4-generic"), Some((6, 18)));
        assert_eq!(version("ovs-vswitchd (Open vSwitch) 3.1.0\nDPDK"), Some((3, 1)));
        assert_eq!(version("none"), None);
        let dep = "kernel/net/openvswitch/openvswitch.ko.xz: kernel/net/nsh/nsh.ko.xz\nkernel/drivers/net/geneve.ko:\n";
        assert!(has_module(dep, "openvswitch") && has_module(dep, "geneve") && !has_module(dep, "nsh"));
        let udp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            9: 00000000:17C1 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n";
        assert_eq!((listener(udp, 6081), listener(udp, 6082)), (Some(4711), None));
        let tcp = udp.replace("17C1", "1D2E").replace(" 07 ", " 01 ");
        assert_eq!(listener(&tcp, 7470), None, "a connection is no listener");
        assert_eq!(foreign_device("flannel.1"), Some("Flannel"));
        assert_eq!(foreign_device("eth0"), None);
    }
}
