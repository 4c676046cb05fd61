package ancestor

import (
	"context"
	"fmt"
	"net/netip"
)

// On the userspace datapath the node's kernel sees the frames of pods besides the switch,
// and must drop them; and checksums have to be filled in before the switch reads a frame.
//
// Nor has it the kernel's connection tracking. What answers a connection to a service must be
// known by the switch's own, and goes by tun0 to get the service's address; and who began a
// connection that leaves by an egress IP. And no mark crosses tun0. All of it is done as
// Damask does it there, so that what a takeover changes is what it would change on the
// kernel's datapath.

// tracksServices says that the switch has to know connections to services.
func (n *node) tracksServices() bool { return n.Userspace && len(n.Services) > 0 }

// answersBase has what is for pods of this node looked up where answers is about.
const answersBase = `
table=31,priority=255,in_port=2,ip,nw_dst={LS},actions=goto_table:70
table=31,priority=252,ip,nw_src={CC},nw_dst={LS},actions=ct(table=70,zone=25)
`

// answers are a pod's flows: what the kernel sends back for it is noted, and what answers
// that goes to the kernel.
func (n *node) answers(address netip.Addr, vnid uint32) []string {
	return []string{
		fmt.Sprintf("table=25,priority=110,ip,nw_src=%s,actions=load:%d->NXM_NX_REG0[],ct(commit,zone=25),goto_table:27", address, vnid),
		fmt.Sprintf("table=70,priority=200,ip,nw_dst=%s,ct_state=+trk+rpl,ct_zone=25,actions=load:%d->NXM_NX_REG1[],load:2->NXM_NX_REG2[],set_field:%s->eth_dst,goto_table:80",
			address, vnid, n.tunMAC),
	}
}

// noteOpener has the switch know that the pod has begun what it sends.
const noteOpener = "ct(commit,zone=100),"

// markedMAC is a mark as a MAC address.
func markedMAC(mark uint32) string {
	return fmt.Sprintf("0a:59:%02x:%02x:%02x:%02x", mark>>24, mark>>16&0xff, mark>>8&0xff, mark&0xff)
}

// readMark is the rule that gives the kernel the mark.
func readMark(mark uint32) string {
	return fmt.Sprintf("iptables -w 5 -t mangle -I PREROUTING -i tun0 -m mac --mac-source %s -j MARK --set-xmark %#x/0xffffffff", markedMAC(mark), mark)
}

// offloadOff has the kernel fill in checksums of what a device of this namespace sends.
func offloadOff(ctx context.Context, device string) error {
	return each(ctx, "ethtool -K "+device+" tx off")
}

// hide keeps what arrives on a pod's veth from the node's kernel.
func hide(ctx context.Context, veth string) error {
	rules := fmt.Sprintf("add table netdev ancestor\nadd chain netdev ancestor %[1]s { type filter hook ingress device %[1]q priority 0; policy drop; }\n", veth)
	_, err := command(ctx, rules, "nft", "-f", "-")
	return err
}
