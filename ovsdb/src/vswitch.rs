//! The tables of the `Open_vSwitch` database, schema 8.3.1, as Rust types (ovs-vswitchd.conf.db(5)); must not know who uses them.
//!
//! @generated from `schema/vswitch.ovsschema` by `tests/typed_tables.rs`: change that, not this.

use std::collections::{BTreeMap, BTreeSet};

use crate::atom::Uuid;
use crate::typed::typed_tables;

/// The name of the database.
pub const DATABASE: &str = "Open_vSwitch";

/// The version of the schema from which these types were made.
pub const SCHEMA_VERSION: &str = "8.3.1";

typed_tables! {
    /// Table `AutoAttach`; its rows stay only while another row refers to them.
    AutoAttach "AutoAttach" {
        /// Map of integer 0 to 16777215 to integer 0 to 4095.
        mappings: BTreeMap<i64, i64> = MAPPINGS "mappings",
        /// Exactly one: string.
        system_description: String = SYSTEM_DESCRIPTION "system_description",
        /// Exactly one: string.
        system_name: String = SYSTEM_NAME "system_name",
    }

    /// Table `Bridge`; its rows stay only while another row refers to them.
    Bridge "Bridge" {
        /// At most one: rows of `AutoAttach`.
        auto_attach: Option<Uuid> = AUTO_ATTACH "auto_attach",
        /// Set of rows of `Controller`.
        controller: BTreeSet<Uuid> = CONTROLLER "controller",
        /// At most one: string; lost when the server restarts.
        datapath_id: Option<String> = DATAPATH_ID "datapath_id",
        /// Exactly one: string.
        datapath_type: String = DATAPATH_TYPE "datapath_type",
        /// Exactly one: string.
        datapath_version: String = DATAPATH_VERSION "datapath_version",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: string (`secure`, `standalone`).
        fail_mode: Option<String> = FAIL_MODE "fail_mode",
        /// Set of integer 0 to 4095.
        flood_vlans: BTreeSet<i64> = FLOOD_VLANS "flood_vlans",
        /// Map of integer 0 to 254 to rows of `Flow_Table`.
        flow_tables: BTreeMap<i64, Uuid> = FLOW_TABLES "flow_tables",
        /// At most one: rows of `IPFIX`.
        ipfix: Option<Uuid> = IPFIX "ipfix",
        /// Exactly one: boolean.
        mcast_snooping_enable: bool = MCAST_SNOOPING_ENABLE "mcast_snooping_enable",
        /// Set of rows of `Mirror`.
        mirrors: BTreeSet<Uuid> = MIRRORS "mirrors",
        /// Exactly one: string; fixed when the row is inserted.
        name: String = NAME "name",
        /// At most one: rows of `NetFlow`.
        netflow: Option<Uuid> = NETFLOW "netflow",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// Set of rows of `Port`.
        ports: BTreeSet<Uuid> = PORTS "ports",
        /// Set of string (`OpenFlow10`, `OpenFlow11`, `OpenFlow12`, `OpenFlow13`, `OpenFlow14`, `OpenFlow15`).
        protocols: BTreeSet<String> = PROTOCOLS "protocols",
        /// Exactly one: boolean.
        rstp_enable: bool = RSTP_ENABLE "rstp_enable",
        /// Map of string to string; lost when the server restarts.
        rstp_status: BTreeMap<String, String> = RSTP_STATUS "rstp_status",
        /// At most one: rows of `sFlow`.
        sflow: Option<Uuid> = SFLOW "sflow",
        /// Map of string to string; lost when the server restarts.
        status: BTreeMap<String, String> = STATUS "status",
        /// Exactly one: boolean.
        stp_enable: bool = STP_ENABLE "stp_enable",
    }

    /// Table `CT_Timeout_Policy`; its rows stay only while another row refers to them.
    CT_Timeout_Policy "CT_Timeout_Policy" {
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Map of string (`icmp_first`, `icmp_reply`, `tcp_close`, `tcp_close_wait`, `tcp_established`, `tcp_fin_wait`, `tcp_last_ack`, `tcp_retransmit`, `tcp_syn_recv`, `tcp_syn_sent`, `tcp_syn_sent2`, `tcp_time_wait`, `tcp_unack`, `udp_first`, `udp_multiple`, `udp_single`) to integer 0 to 4294967295.
        timeouts: BTreeMap<String, i64> = TIMEOUTS "timeouts",
    }

    /// Table `CT_Zone`; its rows stay only while another row refers to them.
    CT_Zone "CT_Zone" {
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: rows of `CT_Timeout_Policy`.
        timeout_policy: Option<Uuid> = TIMEOUT_POLICY "timeout_policy",
    }

    /// Table `Controller`; its rows stay only while another row refers to them.
    Controller "Controller" {
        /// At most one: string (`in-band`, `out-of-band`).
        connection_mode: Option<String> = CONNECTION_MODE "connection_mode",
        /// At most one: integer from 25.
        controller_burst_limit: Option<i64> = CONTROLLER_BURST_LIMIT "controller_burst_limit",
        /// At most one: integer 1 to 512.
        controller_queue_size: Option<i64> = CONTROLLER_QUEUE_SIZE "controller_queue_size",
        /// At most one: integer from 100.
        controller_rate_limit: Option<i64> = CONTROLLER_RATE_LIMIT "controller_rate_limit",
        /// At most one: boolean.
        enable_async_messages: Option<bool> = ENABLE_ASYNC_MESSAGES "enable_async_messages",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: integer.
        inactivity_probe: Option<i64> = INACTIVITY_PROBE "inactivity_probe",
        /// Exactly one: boolean; lost when the server restarts.
        is_connected: bool = IS_CONNECTED "is_connected",
        /// At most one: string.
        local_gateway: Option<String> = LOCAL_GATEWAY "local_gateway",
        /// At most one: string.
        local_ip: Option<String> = LOCAL_IP "local_ip",
        /// At most one: string.
        local_netmask: Option<String> = LOCAL_NETMASK "local_netmask",
        /// At most one: integer from 1000.
        max_backoff: Option<i64> = MAX_BACKOFF "max_backoff",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// At most one: string (`master`, `other`, `slave`); lost when the server restarts.
        role: Option<String> = ROLE "role",
        /// Map of string to string; lost when the server restarts.
        status: BTreeMap<String, String> = STATUS "status",
        /// Exactly one: string.
        target: String = TARGET "target",
        /// At most one: string (`primary`, `service`).
        type_: Option<String> = TYPE "type",
    }

    /// Table `Datapath`; its rows stay only while another row refers to them.
    Datapath "Datapath" {
        /// Map of string to string.
        capabilities: BTreeMap<String, String> = CAPABILITIES "capabilities",
        /// Map of integer 0 to 65535 to rows of `CT_Zone`.
        ct_zones: BTreeMap<i64, Uuid> = CT_ZONES "ct_zones",
        /// Exactly one: string.
        datapath_version: String = DATAPATH_VERSION "datapath_version",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
    }

    /// Table `Flow_Sample_Collector_Set`; its rows stay without a reference to them.
    Flow_Sample_Collector_Set "Flow_Sample_Collector_Set" {
        /// Exactly one: rows of `Bridge`.
        bridge: Uuid = BRIDGE "bridge",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Exactly one: integer 0 to 4294967295.
        id: i64 = ID "id",
        /// At most one: rows of `IPFIX`.
        ipfix: Option<Uuid> = IPFIX "ipfix",
    }

    /// Table `Flow_Table`; its rows stay only while another row refers to them.
    Flow_Table "Flow_Table" {
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: integer from 0.
        flow_limit: Option<i64> = FLOW_LIMIT "flow_limit",
        /// Set of string.
        groups: BTreeSet<String> = GROUPS "groups",
        /// At most one: string.
        name: Option<String> = NAME "name",
        /// At most one: string (`evict`, `refuse`).
        overflow_policy: Option<String> = OVERFLOW_POLICY "overflow_policy",
        /// Set of string.
        prefixes: BTreeSet<String> = PREFIXES "prefixes",
    }

    /// Table `IPFIX`; its rows stay only while another row refers to them.
    IPFIX "IPFIX" {
        /// At most one: integer 0 to 4200.
        cache_active_timeout: Option<i64> = CACHE_ACTIVE_TIMEOUT "cache_active_timeout",
        /// At most one: integer 0 to 4294967295.
        cache_max_flows: Option<i64> = CACHE_MAX_FLOWS "cache_max_flows",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: integer 0 to 4294967295.
        obs_domain_id: Option<i64> = OBS_DOMAIN_ID "obs_domain_id",
        /// At most one: integer 0 to 4294967295.
        obs_point_id: Option<i64> = OBS_POINT_ID "obs_point_id",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// At most one: integer 1 to 4294967295.
        sampling: Option<i64> = SAMPLING "sampling",
        /// Set of string.
        targets: BTreeSet<String> = TARGETS "targets",
    }

    /// Table `Interface`; its rows stay only while another row refers to them.
    Interface "Interface" {
        /// At most one: string (`down`, `up`); lost when the server restarts.
        admin_state: Option<String> = ADMIN_STATE "admin_state",
        /// Map of string to string.
        bfd: BTreeMap<String, String> = BFD "bfd",
        /// Map of string to string; lost when the server restarts.
        bfd_status: BTreeMap<String, String> = BFD_STATUS "bfd_status",
        /// At most one: boolean; lost when the server restarts.
        cfm_fault: Option<bool> = CFM_FAULT "cfm_fault",
        /// Set of string; lost when the server restarts.
        cfm_fault_status: BTreeSet<String> = CFM_FAULT_STATUS "cfm_fault_status",
        /// At most one: integer.
        cfm_flap_count: Option<i64> = CFM_FLAP_COUNT "cfm_flap_count",
        /// At most one: integer 0 to 100; lost when the server restarts.
        cfm_health: Option<i64> = CFM_HEALTH "cfm_health",
        /// At most one: integer.
        cfm_mpid: Option<i64> = CFM_MPID "cfm_mpid",
        /// Set of integer; lost when the server restarts.
        cfm_remote_mpids: BTreeSet<i64> = CFM_REMOTE_MPIDS "cfm_remote_mpids",
        /// At most one: string (`down`, `up`); lost when the server restarts.
        cfm_remote_opstate: Option<String> = CFM_REMOTE_OPSTATE "cfm_remote_opstate",
        /// At most one: string (`full`, `half`); lost when the server restarts.
        duplex: Option<String> = DUPLEX "duplex",
        /// At most one: string.
        error: Option<String> = ERROR "error",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: integer 0 to 4294967295; lost when the server restarts.
        ifindex: Option<i64> = IFINDEX "ifindex",
        /// Exactly one: integer from 0.
        ingress_policing_burst: i64 = INGRESS_POLICING_BURST "ingress_policing_burst",
        /// Exactly one: integer from 0.
        ingress_policing_kpkts_burst: i64 = INGRESS_POLICING_KPKTS_BURST "ingress_policing_kpkts_burst",
        /// Exactly one: integer from 0.
        ingress_policing_kpkts_rate: i64 = INGRESS_POLICING_KPKTS_RATE "ingress_policing_kpkts_rate",
        /// Exactly one: integer from 0.
        ingress_policing_rate: i64 = INGRESS_POLICING_RATE "ingress_policing_rate",
        /// At most one: boolean; lost when the server restarts.
        lacp_current: Option<bool> = LACP_CURRENT "lacp_current",
        /// At most one: integer; lost when the server restarts.
        link_resets: Option<i64> = LINK_RESETS "link_resets",
        /// At most one: integer; lost when the server restarts.
        link_speed: Option<i64> = LINK_SPEED "link_speed",
        /// At most one: string (`down`, `up`); lost when the server restarts.
        link_state: Option<String> = LINK_STATE "link_state",
        /// Map of string to string.
        lldp: BTreeMap<String, String> = LLDP "lldp",
        /// At most one: string.
        mac: Option<String> = MAC "mac",
        /// At most one: string; lost when the server restarts.
        mac_in_use: Option<String> = MAC_IN_USE "mac_in_use",
        /// At most one: integer; lost when the server restarts.
        mtu: Option<i64> = MTU "mtu",
        /// At most one: integer from 1.
        mtu_request: Option<i64> = MTU_REQUEST "mtu_request",
        /// Exactly one: string; fixed when the row is inserted.
        name: String = NAME "name",
        /// At most one: integer.
        ofport: Option<i64> = OFPORT "ofport",
        /// At most one: integer 1 to 65279.
        ofport_request: Option<i64> = OFPORT_REQUEST "ofport_request",
        /// Map of string to string.
        options: BTreeMap<String, String> = OPTIONS "options",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// Map of string to integer; lost when the server restarts.
        statistics: BTreeMap<String, i64> = STATISTICS "statistics",
        /// Map of string to string; lost when the server restarts.
        status: BTreeMap<String, String> = STATUS "status",
        /// Exactly one: string.
        type_: String = TYPE "type",
    }

    /// Table `Manager`; its rows stay only while another row refers to them.
    Manager "Manager" {
        /// At most one: string (`in-band`, `out-of-band`).
        connection_mode: Option<String> = CONNECTION_MODE "connection_mode",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: integer.
        inactivity_probe: Option<i64> = INACTIVITY_PROBE "inactivity_probe",
        /// Exactly one: boolean; lost when the server restarts.
        is_connected: bool = IS_CONNECTED "is_connected",
        /// At most one: integer from 1000.
        max_backoff: Option<i64> = MAX_BACKOFF "max_backoff",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// Map of string to string; lost when the server restarts.
        status: BTreeMap<String, String> = STATUS "status",
        /// Exactly one: string.
        target: String = TARGET "target",
    }

    /// Table `Mirror`; its rows stay only while another row refers to them.
    Mirror "Mirror" {
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Exactly one: string.
        name: String = NAME "name",
        /// At most one: rows of `Port` (weak).
        output_port: Option<Uuid> = OUTPUT_PORT "output_port",
        /// At most one: integer 1 to 4095.
        output_vlan: Option<i64> = OUTPUT_VLAN "output_vlan",
        /// Exactly one: boolean.
        select_all: bool = SELECT_ALL "select_all",
        /// Set of rows of `Port` (weak).
        select_dst_port: BTreeSet<Uuid> = SELECT_DST_PORT "select_dst_port",
        /// Set of rows of `Port` (weak).
        select_src_port: BTreeSet<Uuid> = SELECT_SRC_PORT "select_src_port",
        /// Set of integer 0 to 4095.
        select_vlan: BTreeSet<i64> = SELECT_VLAN "select_vlan",
        /// At most one: integer 14 to 65535.
        snaplen: Option<i64> = SNAPLEN "snaplen",
        /// Map of string to integer; lost when the server restarts.
        statistics: BTreeMap<String, i64> = STATISTICS "statistics",
    }

    /// Table `NetFlow`; its rows stay only while another row refers to them.
    NetFlow "NetFlow" {
        /// Exactly one: integer from -1.
        active_timeout: i64 = ACTIVE_TIMEOUT "active_timeout",
        /// Exactly one: boolean.
        add_id_to_interface: bool = ADD_ID_TO_INTERFACE "add_id_to_interface",
        /// At most one: integer 0 to 255.
        engine_id: Option<i64> = ENGINE_ID "engine_id",
        /// At most one: integer 0 to 255.
        engine_type: Option<i64> = ENGINE_TYPE "engine_type",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Set of string.
        targets: BTreeSet<String> = TARGETS "targets",
    }

    /// Table `Open_vSwitch`; its rows stay without a reference to them.
    Open_vSwitch "Open_vSwitch" {
        /// Set of rows of `Bridge`.
        bridges: BTreeSet<Uuid> = BRIDGES "bridges",
        /// Exactly one: integer.
        cur_cfg: i64 = CUR_CFG "cur_cfg",
        /// Set of string.
        datapath_types: BTreeSet<String> = DATAPATH_TYPES "datapath_types",
        /// Map of string to rows of `Datapath`.
        datapaths: BTreeMap<String, Uuid> = DATAPATHS "datapaths",
        /// At most one: string.
        db_version: Option<String> = DB_VERSION "db_version",
        /// Exactly one: boolean.
        dpdk_initialized: bool = DPDK_INITIALIZED "dpdk_initialized",
        /// At most one: string.
        dpdk_version: Option<String> = DPDK_VERSION "dpdk_version",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Set of string.
        iface_types: BTreeSet<String> = IFACE_TYPES "iface_types",
        /// Set of rows of `Manager`.
        manager_options: BTreeSet<Uuid> = MANAGER_OPTIONS "manager_options",
        /// Exactly one: integer.
        next_cfg: i64 = NEXT_CFG "next_cfg",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// At most one: string.
        ovs_version: Option<String> = OVS_VERSION "ovs_version",
        /// At most one: rows of `SSL`.
        ssl: Option<Uuid> = SSL "ssl",
        /// Map of string to string; lost when the server restarts.
        statistics: BTreeMap<String, String> = STATISTICS "statistics",
        /// At most one: string.
        system_type: Option<String> = SYSTEM_TYPE "system_type",
        /// At most one: string.
        system_version: Option<String> = SYSTEM_VERSION "system_version",
    }

    /// Table `Port`; its rows stay only while another row refers to them.
    Port "Port" {
        /// At most one: string.
        bond_active_slave: Option<String> = BOND_ACTIVE_SLAVE "bond_active_slave",
        /// Exactly one: integer.
        bond_downdelay: i64 = BOND_DOWNDELAY "bond_downdelay",
        /// Exactly one: boolean.
        bond_fake_iface: bool = BOND_FAKE_IFACE "bond_fake_iface",
        /// At most one: string (`active-backup`, `balance-slb`, `balance-tcp`).
        bond_mode: Option<String> = BOND_MODE "bond_mode",
        /// Exactly one: integer.
        bond_updelay: i64 = BOND_UPDELAY "bond_updelay",
        /// Set of integer 0 to 4095.
        cvlans: BTreeSet<i64> = CVLANS "cvlans",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Exactly one: boolean.
        fake_bridge: bool = FAKE_BRIDGE "fake_bridge",
        /// Set of rows of `Interface`.
        interfaces: BTreeSet<Uuid> = INTERFACES "interfaces",
        /// At most one: string (`active`, `off`, `passive`).
        lacp: Option<String> = LACP "lacp",
        /// At most one: string.
        mac: Option<String> = MAC "mac",
        /// Exactly one: string; fixed when the row is inserted.
        name: String = NAME "name",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// Exactly one: boolean.
        protected: bool = PROTECTED "protected",
        /// At most one: rows of `QoS`.
        qos: Option<Uuid> = QOS "qos",
        /// Map of string to integer; lost when the server restarts.
        rstp_statistics: BTreeMap<String, i64> = RSTP_STATISTICS "rstp_statistics",
        /// Map of string to string; lost when the server restarts.
        rstp_status: BTreeMap<String, String> = RSTP_STATUS "rstp_status",
        /// Map of string to integer; lost when the server restarts.
        statistics: BTreeMap<String, i64> = STATISTICS "statistics",
        /// Map of string to string; lost when the server restarts.
        status: BTreeMap<String, String> = STATUS "status",
        /// At most one: integer 0 to 4095.
        tag: Option<i64> = TAG "tag",
        /// Set of integer 0 to 4095.
        trunks: BTreeSet<i64> = TRUNKS "trunks",
        /// At most one: string (`access`, `dot1q-tunnel`, `native-tagged`, `native-untagged`, `trunk`).
        vlan_mode: Option<String> = VLAN_MODE "vlan_mode",
    }

    /// Table `QoS`; its rows stay without a reference to them.
    QoS "QoS" {
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
        /// Map of integer 0 to 4294967295 to rows of `Queue`.
        queues: BTreeMap<i64, Uuid> = QUEUES "queues",
        /// Exactly one: string.
        type_: String = TYPE "type",
    }

    /// Table `Queue`; its rows stay without a reference to them.
    Queue "Queue" {
        /// At most one: integer 0 to 63.
        dscp: Option<i64> = DSCP "dscp",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Map of string to string.
        other_config: BTreeMap<String, String> = OTHER_CONFIG "other_config",
    }

    /// Table `SSL`; its rows stay only while another row refers to them.
    SSL "SSL" {
        /// Exactly one: boolean.
        bootstrap_ca_cert: bool = BOOTSTRAP_CA_CERT "bootstrap_ca_cert",
        /// Exactly one: string.
        ca_cert: String = CA_CERT "ca_cert",
        /// Exactly one: string.
        certificate: String = CERTIFICATE "certificate",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// Exactly one: string.
        private_key: String = PRIVATE_KEY "private_key",
    }

    /// Table `sFlow`; its rows stay only while another row refers to them.
    sFlow "sFlow" {
        /// At most one: string.
        agent: Option<String> = AGENT "agent",
        /// Map of string to string.
        external_ids: BTreeMap<String, String> = EXTERNAL_IDS "external_ids",
        /// At most one: integer.
        header: Option<i64> = HEADER "header",
        /// At most one: integer.
        polling: Option<i64> = POLLING "polling",
        /// At most one: integer.
        sampling: Option<i64> = SAMPLING "sampling",
        /// Set of string.
        targets: BTreeSet<String> = TARGETS "targets",
    }
}
