package ancestor

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// baseFlows are the flows of a node without pods: what is static, what the plugin adds, and
// other nodes. The version note is last, as the mark that all are there.
func (n *node) baseFlows() []string {
	words := strings.NewReplacer(
		"{CC}", n.ClusterNetwork.String(), "{SC}", n.ServiceNetwork.String(), "{LS}", n.Subnet.String(), "{GW}", n.gateway().String(),
		"{NIP}", n.HostIP.String(), "{NMAC}", n.nodeMAC, "{TMAC}", n.tunMAC, "{VP}", fmt.Sprint(n.VXLANPort),
	)
	var flows []string
	text := static + plugins[n.Mode]
	if n.tracksServices() {
		text += answersBase
	}
	for line := range strings.Lines(words.Replace(text)) {
		if line = strings.TrimSpace(line); line != "" {
			flows = append(flows, line)
		}
	}
	everybody := ""
	for _, r := range n.Remotes {
		flows = append(flows, r.flows()...)
		everybody += fmt.Sprintf("set_field:%s->tun_dst,output:1,", r.HostIP)
	}
	flows = append(flows, "table=111,priority=100,actions=move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],"+everybody+"goto_table:120")
	seen := map[uint32]bool{}
	for _, vnid := range n.VNIDs {
		if !seen[vnid] {
			seen[vnid] = true
			flows = append(flows, n.namespaceFlows(vnid)...)
		}
	}
	for _, i := range n.Isolated {
		flows = append(flows, i.flows()...)
	}
	return append(flows, "table=253,actions=note:"+n.Mode+".0D")
}

// namespaceFlows are those of a VNID in use.
func (n *node) namespaceFlows(vnid uint32) []string {
	switch {
	case n.Mode == Multitenant && vnid != 0:
		return []string{fmt.Sprintf("table=80,priority=100,reg0=%[1]d,reg1=%[1]d,actions=output:NXM_NX_REG2[]", vnid)}
	case n.Mode == NetworkPolicy:
		open := map[bool]string{
			false: fmt.Sprintf("table=80,priority=50,reg1=%d,actions=output:NXM_NX_REG2[]", vnid),
			true:  fmt.Sprintf("table=27,priority=50,reg0=%d,actions=goto_table:30", vnid),
		}
		for _, i := range n.Isolated {
			if i.VNID == vnid {
				delete(open, i.Egress)
			}
		}
		return slices.Collect(maps.Values(open))
	}
	return nil
}

// Isolated is a namespace all of whose pods a policy selects in one direction.
type Isolated struct {
	// Egress says that it is about what the pods send.
	Egress bool
	// VNID is the namespace's.
	VNID uint32
	// Peers are what is allowed: matches of who is at the other side, and of ports.
	Peers []string
}

// flows are one for each peer.
func (i Isolated) flows() []string {
	table, register, pass := 80, 1, "output:NXM_NX_REG2[]"
	if i.Egress {
		table, register, pass = 27, 0, "goto_table:30"
	}
	var flows []string
	for _, peer := range i.Peers {
		flows = append(flows, fmt.Sprintf("table=%d,priority=150,reg%d=%d,%s,actions=%s", table, register, i.VNID, peer, pass))
	}
	return flows
}

// flows are those of another node, with the cookie of its HostSubnet's UID.
func (r Remote) flows() []string {
	sum := sha256.Sum256([]byte(r.UID))
	cookie := binary.BigEndian.Uint32(sum[:])
	send := fmt.Sprintf("move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:%s->tun_dst,output:1", r.HostIP)
	return []string{
		fmt.Sprintf("table=10,priority=100,cookie=%#x,tun_src=%s,actions=goto_table:30", cookie, r.HostIP),
		fmt.Sprintf("table=50,priority=100,cookie=%#x,arp,nw_dst=%s,actions=%s", cookie, r.Subnet, send),
		fmt.Sprintf("table=90,priority=100,cookie=%#x,ip,nw_dst=%s,actions=%s", cookie, r.Subnet, send),
	}
}

// ofPod are the flows of a pod on this node.
func (n *node) ofPod(address netip.Addr, port, vnid uint32) []string {
	flows := podFlows(address, port, vnid)
	if n.tracksServices() {
		flows = append(flows, n.answers(address, vnid)...)
	}
	return flows
}

// podFlows are the five flows of a pod.
func podFlows(address netip.Addr, port, vnid uint32) []string {
	b := address.As4()
	return []string{
		fmt.Sprintf("table=20,priority=100,in_port=%d,arp,nw_src=%s,arp_sha=00:00:%02x:%02x:%02x:%02x/00:00:ff:ff:ff:ff,actions=load:%d->NXM_NX_REG0[],goto_table:30",
			port, address, b[0], b[1], b[2], b[3], vnid),
		fmt.Sprintf("table=20,priority=100,in_port=%d,ip,nw_src=%s,actions=load:%d->NXM_NX_REG0[],goto_table:27", port, address, vnid),
		fmt.Sprintf("table=25,priority=100,ip,nw_src=%s,actions=load:%d->NXM_NX_REG0[],goto_table:27", address, vnid),
		fmt.Sprintf("table=40,priority=100,arp,nw_dst=%s,actions=output:%d", address, port),
		fmt.Sprintf("table=70,priority=100,ip,nw_dst=%s,actions=load:%d->NXM_NX_REG1[],load:%d->NXM_NX_REG2[],goto_table:80", address, vnid, port),
	}
}

// plugins are what each plugin adds.
var plugins = map[string]string{
	Subnet: `
table=27,priority=500,actions=goto_table:30
table=80,priority=200,actions=output:NXM_NX_REG2[]
`,
	Multitenant: `
table=27,priority=500,actions=goto_table:30
table=80,priority=200,reg0=0,actions=output:NXM_NX_REG2[]
table=80,priority=200,reg1=0,actions=output:NXM_NX_REG2[]
`,
	NetworkPolicy: `
table=27,priority=300,ip,nw_dst={SC},actions=goto_table:30
table=27,priority=200,ip,ct_state=+rpl,actions=goto_table:30
table=30,priority=100,ip,nw_src={CC},nw_dst={CC},ct_state=-rpl,actions=ct(commit,table=31)
table=80,priority=200,ip,ct_state=+rpl,actions=output:NXM_NX_REG2[]
`,
}

// static is what every node has, one flow a line.
const static = `
table=0,priority=1000,ip,ct_state=-trk,actions=ct(table=0)
table=0,priority=400,in_port=2,ip,nw_src={GW},actions=goto_table:30
table=0,priority=300,in_port=2,ip,nw_src={LS},nw_dst={CC},actions=goto_table:25
table=0,priority=250,in_port=2,ip,nw_dst=224.0.0.0/4,actions=drop
table=0,priority=200,in_port=1,arp,nw_src={CC},nw_dst={LS},actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10
table=0,priority=200,in_port=1,ip,nw_src={CC},actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10
table=0,priority=200,in_port=1,ip,nw_dst={CC},actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10
table=0,priority=200,in_port=2,arp,nw_src={GW},nw_dst={CC},actions=goto_table:30
table=0,priority=200,in_port=2,ip,actions=goto_table:30
table=0,priority=150,in_port=1,actions=drop
table=0,priority=150,in_port=2,actions=drop
table=0,priority=100,arp,actions=goto_table:20
table=0,priority=100,ip,actions=goto_table:20
table=0,priority=0,actions=drop
table=10,priority=210,ip,nw_dst={GW},eth_dst={NMAC},actions=set_field:{TMAC}->eth_dst,resubmit(,10)
table=10,priority=200,ip,nw_dst={LS},eth_dst={NMAC},actions=move:NXM_OF_IP_DST[]->NXM_OF_ETH_DST[0..31],load:0x0a58->NXM_OF_ETH_DST[32..47],resubmit(,10)
table=10,priority=0,actions=drop
table=20,priority=300,udp,udp_dst={VP},actions=drop
table=20,priority=0,actions=drop
table=25,priority=0,actions=drop
table=27,priority=0,actions=drop
table=30,priority=0,actions=goto_table:31
table=31,priority=300,arp,nw_dst={GW},actions=output:2
table=31,priority=300,ip,nw_dst={GW},actions=output:2
table=31,priority=250,ip,nw_dst={LS},ct_state=+rpl,actions=ct(nat,table=70)
table=31,priority=200,arp,nw_dst={LS},actions=goto_table:40
table=31,priority=200,ip,nw_dst={LS},actions=goto_table:70
table=31,priority=100,arp,nw_dst={CC},actions=goto_table:50
table=31,priority=100,ip,nw_dst={SC},actions=goto_table:60
table=31,priority=100,ip,nw_dst={CC},actions=goto_table:90
table=31,priority=50,in_port=1,ip,nw_dst=224.0.0.0/4,actions=goto_table:120
table=31,priority=25,ip,nw_dst=224.0.0.0/4,actions=goto_table:110
table=31,priority=0,ip,actions=goto_table:99
table=31,priority=0,arp,actions=drop
table=40,priority=0,actions=drop
table=50,priority=0,actions=drop
table=60,priority=200,actions=output:2
table=70,priority=0,actions=drop
table=80,priority=300,ip,nw_src={GW}/32,actions=output:NXM_NX_REG2[]
table=80,priority=0,actions=drop
table=90,priority=0,actions=drop
table=99,priority=200,tcp,tcp_dst=53,nw_dst={NIP},actions=output:2
table=99,priority=200,udp,udp_dst=53,nw_dst={NIP},actions=output:2
table=99,priority=0,actions=goto_table:100
table=100,priority=0,actions=goto_table:101
table=101,priority=150,ct_state=+rpl,actions=output:2
table=101,priority=0,actions=output:2
table=110,priority=0,actions=drop
table=120,priority=0,actions=drop
`
