package openflow

// Classes of OXM fields.
const (
	classNXM          = 0x0001     // Nicira extended match, "NXM_NX_…".
	classNXM0         = 0x0000     // The first Nicira fields, "NXM_OF_…"; in actions only.
	classBasic        = 0x8000     // OpenFlow basic, "OXM_OF_…".
	classExperimenter = 0xffff     // Body starts with the experimenter's id.
	experimenterONF   = 0x4f4e4600 // Open Networking Foundation.
	experimenterNX    = 0x00002320 // Nicira, whose extensions are Open vSwitch's own.
)

// An oxm is the header of a match field: class (16 bits), number (7), has-mask (1), length of the body (8).
type oxm uint32

func (h oxm) class() uint16         { return uint16(h >> 16) }
func (h oxm) number() uint8         { return uint8(h>>9) & 0x7f }
func (h oxm) masked() bool          { return h&0x100 != 0 }
func (h oxm) length() int           { return int(h & 0xff) }
func (h oxm) withMask() oxm         { return h&^0xff | 0x100 | h&0xff*2 }
func (h oxm) identity() oxm         { return h &^ 0x1ff } // Class and number alone.
func basic(number, size uint32) oxm { return oxm(classBasic<<16 | number<<9 | size) }
func nxm(number, size uint32) oxm   { return oxm(classNXM<<16 | number<<9 | size) }

// idONF is experimenterONF as it stands on the wire.
const idONF = "ONF\x00"

// A style is a way to write a field's value.
type style uint8

const (
	hexadecimal style = iota // 0x2a, and 0 for zero, as C's %#x.
	decimal                  // 42, masked as 0x2a/0xff.
	ethernet                 // 0a:59:00:82:f8:b2.
	ipv4                     // 10.128.0.0/14.
	ipv6                     // fd00::/64.
	port                     // An OpenFlow port, possibly LOCAL.
	ctStates                 // +trk-new.
	tcpFlags                 // +syn-ack.
	fragments                // no, yes, first, later, not_later.
	dscp                     // As a TOS byte: shifted left by two.
	vlan                     // Without the present bit.
	label                    // Hexadecimal with at least five digits.
	silent                   // Shown by the protocol name (eth_type).
	protocol                 // Shown by the protocol name when it has one.
)

// A field is a match field that we know by name.
type field struct {
	header oxm    // As the switch writes it in an OpenFlow 1.3 match and in set_field.
	name   string // In matches and in set_field's target.
	set    string // In set_field's target, if it differs from name.
	long   string // In load, move and output.
	style  style
	text   uint8 // Place in the text of a match: ovs-ofctl does not write fields in wire order.
}

// Fields that builders use, by their header.
const (
	oxmInPort   = oxm(classBasic<<16 | 0<<9 | 4)
	oxmEthDst   = oxm(classBasic<<16 | 3<<9 | 6)
	oxmEthSrc   = oxm(classBasic<<16 | 4<<9 | 6)
	oxmEthType  = oxm(classBasic<<16 | 5<<9 | 2)
	oxmIPProto  = oxm(classBasic<<16 | 10<<9 | 1)
	oxmIPv4Src  = oxm(classBasic<<16 | 11<<9 | 4)
	oxmIPv4Dst  = oxm(classBasic<<16 | 12<<9 | 4)
	oxmTCPSrc   = oxm(classBasic<<16 | 13<<9 | 2)
	oxmTCPDst   = oxm(classBasic<<16 | 14<<9 | 2)
	oxmUDPSrc   = oxm(classBasic<<16 | 15<<9 | 2)
	oxmUDPDst   = oxm(classBasic<<16 | 16<<9 | 2)
	oxmSCTPSrc  = oxm(classBasic<<16 | 17<<9 | 2)
	oxmSCTPDst  = oxm(classBasic<<16 | 18<<9 | 2)
	oxmARPOp    = oxm(classBasic<<16 | 21<<9 | 2)
	oxmARPSPA   = oxm(classBasic<<16 | 22<<9 | 4)
	oxmARPTPA   = oxm(classBasic<<16 | 23<<9 | 4)
	oxmARPSHA   = oxm(classBasic<<16 | 24<<9 | 6)
	oxmARPTHA   = oxm(classBasic<<16 | 25<<9 | 6)
	oxmIPv6Src  = oxm(classBasic<<16 | 26<<9 | 16)
	oxmIPv6Dst  = oxm(classBasic<<16 | 27<<9 | 16)
	oxmTunID    = oxm(classBasic<<16 | 38<<9 | 8)
	nxmTunID    = oxm(classNXM<<16 | 16<<9 | 8)
	nxmReg0     = oxm(classNXM<<16 | 0<<9 | 4) // Register n is n<<9 further.
	nxmIPFrag   = oxm(classNXM<<16 | 26<<9 | 1)
	nxmTunSrc   = oxm(classNXM<<16 | 31<<9 | 4)
	nxmTunDst   = oxm(classNXM<<16 | 32<<9 | 4)
	nxmPktMark  = oxm(classNXM<<16 | 33<<9 | 4)
	nxmConjID   = oxm(classNXM<<16 | 37<<9 | 4)
	nxmCTState  = oxm(classNXM<<16 | 105<<9 | 4)
	nxmCTZone   = oxm(classNXM<<16 | 106<<9 | 2)
	nxmCTMark   = oxm(classNXM<<16 | 107<<9 | 4)
	nxmTun6Src  = oxm(classNXM<<16 | 109<<9 | 16)
	nxmTun6Dst  = oxm(classNXM<<16 | 110<<9 | 16)
	registers   = 16 // NXM_NX_REG0 to NXM_NX_REG15.
	oxmTCPFlags = oxm(classExperimenter<<16 | 42<<9 | 6)
)

// fields lists the known fields in the order in which Open vSwitch writes them in a match, which has every field after
// those it depends on. It is also the canonical order of a Match, so a dump seldom needs sorting.
var fields = withRegisters([]field{
	{header: oxmInPort, name: "in_port", long: "NXM_OF_IN_PORT", style: port, text: 50},
	{header: oxmEthSrc, name: "dl_src", set: "eth_src", long: "NXM_OF_ETH_SRC", style: ethernet, text: 53},
	{header: oxmEthDst, name: "dl_dst", set: "eth_dst", long: "NXM_OF_ETH_DST", style: ethernet, text: 54},
	{header: oxmEthType, name: "dl_type", long: "NXM_OF_ETH_TYPE", style: silent, text: 12},
	{header: basic(6, 2), name: "dl_vlan", set: "vlan_vid", long: "OXM_OF_VLAN_VID", style: vlan, text: 51},
	{header: basic(7, 1), name: "dl_vlan_pcp", set: "vlan_pcp", long: "OXM_OF_VLAN_PCP", style: decimal, text: 52},
	{header: oxmIPv4Src, name: "nw_src", set: "ip_src", long: "NXM_OF_IP_SRC", style: ipv4, text: 55},
	{header: oxmIPv4Dst, name: "nw_dst", set: "ip_dst", long: "NXM_OF_IP_DST", style: ipv4, text: 56},
	{header: oxmIPv6Src, name: "ipv6_src", long: "NXM_NX_IPV6_SRC", style: ipv6, text: 55},
	{header: oxmIPv6Dst, name: "ipv6_dst", long: "NXM_NX_IPV6_DST", style: ipv6, text: 56},
	{header: basic(28, 4), name: "ipv6_label", long: "NXM_NX_IPV6_LABEL", style: label, text: 57},
	{header: basic(8, 1), name: "nw_tos", set: "ip_dscp", long: "OXM_OF_IP_DSCP", style: dscp, text: 62},
	{header: basic(9, 1), name: "nw_ecn", long: "NXM_NX_IP_ECN", style: decimal, text: 63},
	{header: nxm(29, 1), name: "nw_ttl", long: "NXM_NX_IP_TTL", style: decimal, text: 64},
	{header: nxmIPFrag, name: "nw_frag", set: "ip_frag", long: "NXM_NX_IP_FRAG", style: fragments, text: 66},
	{header: oxmIPProto, name: "nw_proto", long: "NXM_OF_IP_PROTO", style: protocol, text: 58},
	{header: oxmTCPSrc, name: "tp_src", set: "tcp_src", long: "NXM_OF_TCP_SRC", style: decimal, text: 67},
	{header: oxmTCPDst, name: "tp_dst", set: "tcp_dst", long: "NXM_OF_TCP_DST", style: decimal, text: 68},
	{header: oxmUDPSrc, name: "tp_src", set: "udp_src", long: "NXM_OF_UDP_SRC", style: decimal, text: 67},
	{header: oxmUDPDst, name: "tp_dst", set: "udp_dst", long: "NXM_OF_UDP_DST", style: decimal, text: 68},
	{header: oxmSCTPSrc, name: "tp_src", set: "sctp_src", long: "OXM_OF_SCTP_SRC", style: decimal, text: 67},
	{header: oxmSCTPDst, name: "tp_dst", set: "sctp_dst", long: "OXM_OF_SCTP_DST", style: decimal, text: 68},
	{header: basic(19, 1), name: "icmp_type", long: "NXM_OF_ICMP_TYPE", style: decimal, text: 67},
	{header: basic(20, 1), name: "icmp_code", long: "NXM_OF_ICMP_CODE", style: decimal, text: 68},
	{header: basic(29, 1), name: "icmp_type", long: "NXM_NX_ICMPV6_TYPE", style: decimal, text: 67},
	{header: basic(30, 1), name: "icmp_code", long: "NXM_NX_ICMPV6_CODE", style: decimal, text: 68},
	{header: basic(31, 16), name: "nd_target", long: "NXM_NX_ND_TARGET", style: ipv6, text: 70},
	{header: basic(32, 6), name: "nd_sll", long: "NXM_NX_ND_SLL", style: ethernet, text: 71},
	{header: basic(33, 6), name: "nd_tll", long: "NXM_NX_ND_TLL", style: ethernet, text: 72},
	{header: oxmARPOp, name: "arp_op", long: "NXM_OF_ARP_OP", style: decimal, text: 58},
	{header: oxmARPSPA, name: "arp_spa", long: "NXM_OF_ARP_SPA", style: ipv4, text: 55},
	{header: oxmARPTPA, name: "arp_tpa", long: "NXM_OF_ARP_TPA", style: ipv4, text: 56},
	{header: oxmARPSHA, name: "arp_sha", long: "NXM_NX_ARP_SHA", style: ethernet, text: 60},
	{header: oxmARPTHA, name: "arp_tha", long: "NXM_NX_ARP_THA", style: ethernet, text: 61},
	{header: oxmTunID, name: "tun_id", long: "NXM_NX_TUN_ID", style: hexadecimal, text: 40},
	{header: nxmTunSrc, name: "tun_src", long: "NXM_NX_TUN_IPV4_SRC", style: ipv4, text: 41},
	{header: nxmTunDst, name: "tun_dst", long: "NXM_NX_TUN_IPV4_DST", style: ipv4, text: 42},
	{header: nxmTun6Src, name: "tun_ipv6_src", long: "NXM_NX_TUN_IPV6_SRC", style: ipv6, text: 43},
	{header: nxmTun6Dst, name: "tun_ipv6_dst", long: "NXM_NX_TUN_IPV6_DST", style: ipv6, text: 44},
}, []field{
	{header: nxmPktMark, name: "pkt_mark", long: "NXM_NX_PKT_MARK", style: hexadecimal, text: 1},
	{header: nxmCTState, name: "ct_state", long: "NXM_NX_CT_STATE", style: ctStates, text: 4},
	{header: nxmCTZone, name: "ct_zone", long: "NXM_NX_CT_ZONE", style: decimal, text: 5},
	{header: nxmCTMark, name: "ct_mark", long: "NXM_NX_CT_MARK", style: hexadecimal, text: 6},
	{header: nxm(108, 16), name: "ct_label", long: "NXM_NX_CT_LABEL", style: hexadecimal, text: 7},
	{header: nxm(120, 4), name: "ct_nw_src", long: "NXM_NX_CT_NW_SRC", style: ipv4, text: 8},
	{header: nxm(121, 4), name: "ct_nw_dst", long: "NXM_NX_CT_NW_DST", style: ipv4, text: 8},
	{header: nxm(122, 16), name: "ct_ipv6_src", long: "NXM_NX_CT_IPV6_SRC", style: ipv6, text: 8},
	{header: nxm(123, 16), name: "ct_ipv6_dst", long: "NXM_NX_CT_IPV6_DST", style: ipv6, text: 8},
	{header: nxm(119, 1), name: "ct_nw_proto", long: "NXM_NX_CT_NW_PROTO", style: decimal, text: 9},
	{header: nxm(124, 2), name: "ct_tp_src", long: "NXM_NX_CT_TP_SRC", style: decimal, text: 10},
	{header: nxm(125, 2), name: "ct_tp_dst", long: "NXM_NX_CT_TP_DST", style: decimal, text: 11},
	{header: nxmConjID, name: "conj_id", long: "NXM_NX_CONJ_ID", style: decimal, text: 3},
	{header: basic(2, 8), name: "metadata", long: "OXM_OF_METADATA", style: hexadecimal, text: 45},
})

// withRegisters puts the sixteen registers between before and after.
func withRegisters(before, after []field) []field {
	all := append([]field(nil), before...)
	for n := range registers {
		all = append(all, field{header: nxmReg(n), name: registerNames[n], long: registerLongNames[n], text: 20 + uint8(n)})
	}
	return append(all, after...)
}

func nxmReg(n int) oxm { return nxmReg0 + oxm(n)<<9 }

var registerNames = [registers]string{
	"reg0", "reg1", "reg2", "reg3", "reg4", "reg5", "reg6", "reg7",
	"reg8", "reg9", "reg10", "reg11", "reg12", "reg13", "reg14", "reg15",
}

var registerLongNames = [registers]string{
	"NXM_NX_REG0", "NXM_NX_REG1", "NXM_NX_REG2", "NXM_NX_REG3", "NXM_NX_REG4", "NXM_NX_REG5", "NXM_NX_REG6", "NXM_NX_REG7",
	"NXM_NX_REG8", "NXM_NX_REG9", "NXM_NX_REG10", "NXM_NX_REG11", "NXM_NX_REG12", "NXM_NX_REG13", "NXM_NX_REG14", "NXM_NX_REG15",
}

// unranked is the rank of a field that we do not know: after all known ones.
const unranked = 0xff

// fieldRanks maps a field's number to its place in fields, one array a class, so that decoding a dump hashes nothing.
type fieldRanks struct{ nxm, basic [128]uint8 }

var ranks = rankFields(fields)

func rankFields(all []field) *fieldRanks {
	r := &fieldRanks{}
	for i := range r.nxm {
		r.nxm[i], r.basic[i] = unranked, unranked
	}
	for i, f := range all {
		switch f.header.class() {
		case classNXM:
			r.nxm[f.header.number()] = uint8(i)
		case classBasic:
			r.basic[f.header.number()] = uint8(i)
		}
	}
	return r
}

// rank is the place of a field in a canonical match.
func (h oxm) rank() uint8 {
	switch h.class() {
	case classNXM:
		return ranks.nxm[h.number()]
	case classBasic:
		return ranks.basic[h.number()]
	}
	return unranked
}

// tcpFlagsField is an experimenter field: its body starts with the experimenter's id.
var tcpFlagsField = field{header: oxmTCPFlags, name: "tcp_flags", long: "NXM_NX_TCP_FLAGS", style: tcpFlags, text: 69}

// longNames are the names, in Nicira actions, of the fields of class 0 (the first Nicira fields), by number.
var longNames = [...]string{
	"NXM_OF_IN_PORT", "NXM_OF_ETH_DST", "NXM_OF_ETH_SRC", "NXM_OF_ETH_TYPE", "NXM_OF_VLAN_TCI", "NXM_OF_IP_TOS",
	"NXM_OF_IP_PROTO", "NXM_OF_IP_SRC", "NXM_OF_IP_DST", "NXM_OF_TCP_SRC", "NXM_OF_TCP_DST", "NXM_OF_UDP_SRC",
	"NXM_OF_UDP_DST", "NXM_OF_ICMP_TYPE", "NXM_OF_ICMP_CODE", "NXM_OF_ARP_OP", "NXM_OF_ARP_SPA", "NXM_OF_ARP_TPA",
}

// longName returns the field's name in load, move and output actions, or "" when we do not know it.
func (h oxm) longName() string {
	if h.class() == classNXM0 {
		if int(h.number()) < len(longNames) {
			return longNames[h.number()]
		}
		return ""
	}
	if h.identity() == nxmTunID.identity() {
		return "NXM_NX_TUN_ID"
	}
	if rank := h.rank(); rank != unranked {
		return fields[rank].long
	}
	return ""
}

// knownExperimenter does what known does for the one experimenter field that Open vSwitch uses in OpenFlow 1.3.
func knownExperimenter(h oxm, body string) *field {
	size := h.length()
	if h.identity() != oxmTCPFlags.identity() || size != len(body) || body[:min(4, size)] != idONF {
		return nil
	}
	if size == 6 && !h.masked() || size == 8 && h.masked() {
		return &tcpFlagsField
	}
	return nil
}

// known returns the field that a match entry is of, or nil when we do not know it or its length is not the field's.
func known(h oxm, body string) *field {
	if h.class() == classExperimenter {
		return knownExperimenter(h, body)
	}
	rank := h.rank()
	if rank == unranked {
		return nil
	}
	f := &fields[rank]
	size := f.header.length()
	if h.masked() {
		size *= 2
	}
	if len(body) != size {
		return nil
	}
	return f
}
