package hostport

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The chains. The first and the prefix are kubelet's.
const (
	chainHostPorts = "KUBE-HOSTPORTS"
	chainTenants   = "DAMASK-HOSTPORT-TENANTS"
	prefixPort     = "KUBE-HP-"
)

// hashLength is how many characters of the hash a chain's name holds.
const hashLength = 16

// A rule is written as iptables -S prints it, without "-A CHAIN": what is there is
// compared as text, and the same text is sent.

// port is all that one mapping has in the kernel.
type port struct {
	chain string
	rules []string
	entry string // in KUBE-HOSTPORTS
}

// fragment is all that one owner has in the kernel.
type fragment struct{ ports []port }

func (f fragment) empty() bool { return len(f.ports) == 0 }

// chainOf names the chain of a mapping, by kubelet's rule: of sandbox, port, protocol
// and address. So two sandboxes of one pod never share a chain.
func chainOf(owner string, m Mapping) string {
	text := owner + strconv.Itoa(int(m.HostPort)) + strings.ToUpper(string(m.Protocol))
	if m.HostIP.IsValid() {
		text += m.HostIP.String()
	}
	sum := sha256.Sum256([]byte(text))
	return prefixPort + base32.StdEncoding.EncodeToString(sum[:])[:hashLength]
}

// compile turns mappings into rules. It is pure.
func compile(n Node, owner string, mappings []Mapping) fragment {
	var f fragment
	for _, m := range mappings {
		note := comment(fmt.Sprintf("%s/%s hostport %d", m.Namespace, m.Pod, m.HostPort))
		p := port{chain: chainOf(owner, m)}
		// A pod that asks itself would see its own address, and answer without the way back.
		p.rules = append(p.rules, fmt.Sprintf("-s %s/32 %s -j MARK --set-xmark %s", m.To.Addr(), note, bit(n)))
		if n.tenant(m.Namespace) {
			p.rules = append(p.rules, note+" -j "+chainTenants)
		}
		p.rules = append(p.rules, fmt.Sprintf("-p %s %s -m %s -j DNAT --to-destination %s", m.Protocol, note, m.Protocol, m.To))
		on := ""
		if m.HostIP.IsValid() {
			on = "-d " + m.HostIP.String() + "/32 "
		}
		p.entry = fmt.Sprintf("%s-p %s %s -m %s --dport %d -j %s", on, m.Protocol, note, m.Protocol, m.HostPort, p.chain)
		f.ports = append(f.ports, p)
	}
	return f
}

func comment(text string) string { return `-m comment --comment "` + text + `"` }

func bit(n Node) string {
	mark := uint32(1) << n.MasqueradeBit
	return fmt.Sprintf("0x%x/0x%x", mark, mark)
}

// tenantRules end, without a translation, what comes from where nobody can tell who
// asks. They stand for the pods of other nodes, by their own addresses if they ask at
// the gateway's, and by their nodes' if they ask at this node's. This node's own pods
// keep their address, and are the switch's to judge.
func tenantRules(n Node) []string {
	rules := []string{"-s " + n.Pods.String() + " " + comment("the switch knows whose these pods are") + " -j RETURN"}
	for _, c := range n.ClusterNetworks {
		rules = append(rules, "-s "+c.String()+" "+comment("pods of other nodes")+" -j ACCEPT")
	}
	nodes := slices.Clone(n.Nodes)
	slices.SortFunc(nodes, netip.Addr.Compare)
	for _, a := range slices.Compact(nodes) {
		rules = append(rules, "-s "+a.String()+"/32 "+comment("another node, or its pods")+" -j ACCEPT")
	}
	return rules
}
