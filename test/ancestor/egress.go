package ancestor

import (
	"context"
	"fmt"
	"net/netip"
)

// Egress is a VNID whose pods leave by an address.
type Egress struct {
	// VNID is the namespace's.
	VNID uint32
	// IP is the address.
	IP netip.Addr
	// Host is the address of the node that holds it: this one's, or another's.
	Host netip.Addr
}

// mark is that of what leaves here by the address: the bit of kube-proxy, which is 0, and
// the one of the kubelet are moved out of the way.
func (e Egress) mark() uint32 {
	const kubelet, movedKubelet, proxy, movedProxy, ofZero = 0x8000, 0x10000000, 0x1, 0x01000000, 0xff000000
	mark := e.VNID
	if mark == 0 {
		mark = ofZero
	}
	if mark&kubelet != 0 {
		mark = mark&^kubelet | movedKubelet
	}
	if mark&proxy != 0 {
		mark = mark&^proxy | movedProxy
	}
	return mark
}

// leave has the pods of namespaces leave by their egress IPs, and holds those of this node.
func (n *node) leave(ctx context.Context) error {
	for _, e := range n.Egress {
		here := e.Host == n.HostIP
		commit, bucket := "ct(commit),", fmt.Sprintf("move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:%s->tun_dst,output:1", e.Host)
		if here {
			if err := n.hold(ctx, e); err != nil {
				return err
			}
			carry := fmt.Sprintf("set_field:%#x->pkt_mark", e.mark())
			if n.Userspace {
				carry = "set_field:" + markedMAC(e.mark()) + "->eth_src"
			}
			commit, bucket = "", fmt.Sprintf("set_field:%s->eth_dst,%s,output:2", n.tunMAC, carry)
		}
		if n.Userspace {
			commit += noteOpener
		}
		changes := fmt.Sprintf("group add group_id=%d,type=select,bucket=actions=%s\nflow add table=101,priority=100,ip,reg0=%d,actions=%sgroup:%d\n",
			e.VNID, bucket, e.VNID, commit, e.VNID)
		if _, err := command(ctx, changes, "ovs-ofctl", "-O", "OpenFlow13", "bundle", "br0", "-"); err != nil {
			return err
		}
	}
	return nil
}

// hold has the address on the node's interface, and iptables give it to what is marked.
func (n *node) hold(ctx context.Context, e Egress) error {
	cc, mark := n.ClusterNetwork, fmt.Sprintf("%#x", e.mark())
	length, err := command(ctx, "", "sh", "-c", "ip -4 -o addr show dev "+n.Device+" | sed -n 's/.*inet "+n.HostIP.String()+"\\/\\([0-9]*\\).*/\\1/p'")
	if err != nil {
		return err
	}
	lines := []string{
		fmt.Sprintf("iptables -w 5 -t nat -I OPENSHIFT-MASQUERADE -s %s -m mark --mark %s -j SNAT --to-source %s", cc, mark, e.IP),
		fmt.Sprintf("iptables -w 5 -t nat -I OPENSHIFT-MASQUERADE -s %s -d %[1]s -m mark --mark %s -j MASQUERADE", cc, mark),
		fmt.Sprintf("iptables -w 5 -A OPENSHIFT-FIREWALL-ALLOW -d %s -m conntrack --ctstate NEW -j REJECT", e.IP),
		fmt.Sprintf("ip addr add %s/%s dev %s label %[3]s:eip", e.IP, length, n.Device),
	}
	if n.Userspace {
		lines = append(lines, readMark(e.mark()))
	}
	return each(ctx, lines...)
}
