//! The OVSDB client against a real ovsdb-server and ovs-vswitchd.

use tests::private_ovs::PrivateOvs;

#[test]
fn a_private_switch_starts_and_answers() {
    let Some(ovs) = PrivateOvs::start().expect("start") else { return };
    ovs.vsctl(["add-br", "br0"]).expect("add-br");
    assert!(ovs.mgmt_socket("br0").exists());
    assert!(ovs.ofctl(["dump-flows", "br0"]).expect("dump").contains("NORMAL"));
}
