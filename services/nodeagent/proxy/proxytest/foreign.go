package proxytest

import (
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// foreignRules are other people's: in each built-in chain of both kinds of iptables, a
// chain of their own and jumps to it, the pod network's, and a table of nftables. None
// of them concerns the rig's packets.
const foreignRules = `
	for program in iptables-nft iptables-legacy; do
		$program -t nat -N FOREIGN
		$program -t nat -A FOREIGN -s 203.0.113.9/32 -p tcp -m tcp --dport 81 -j ACCEPT
		for chain in PREROUTING INPUT OUTPUT POSTROUTING; do
			$program -t nat -A $chain -s 203.0.113.0/24 -m comment --comment "somebody's own" -j FOREIGN
		done
		$program -N FOREIGN
		$program -N KUBE-FIREWALL
		$program -A KUBE-FIREWALL -s 203.0.113.7/32 -j DROP
		$program -A FOREIGN -s 203.0.113.9/32 -j DROP
		for chain in INPUT FORWARD OUTPUT; do
			$program -A $chain -s 203.0.113.0/24 -j FOREIGN
			$program -A $chain -j KUBE-FIREWALL
		done
		$program -t mangle -A PREROUTING -s 203.0.113.5/32 -j MARK --set-mark 7
	done
	nft add table inet foreign
	nft add chain inet foreign forward '{ type filter hook forward priority 5; }'
	nft add rule inet foreign forward ip saddr 203.0.113.77 drop`

// foreignLines are the rules on the node that are not the engines', in their order.
func (r *rig) foreignLines(t *testing.T) string {
	t.Helper()
	text := r.node.Run(t, "iptables-nft-save") + r.node.Run(t, "iptables-legacy-save")
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "-A") && (strings.Contains(line, "203.0.113.") || strings.Contains(line, "KUBE-FIREWALL")) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n") + r.node.Run(t, "nft", "list", "table", "inet", "foreign")
}

func foreign(t *testing.T, r *rig) {
	script(t, r.node, foreignRules)
	before, theirs := r.ruleset(t), r.foreignLines(t)
	same := func(when string) {
		t.Helper()
		if got := r.foreignLines(t); got != theirs {
			t.Fatalf("%s others' rules are\n%s\nwere\n%s", when, got, theirs)
		}
	}
	tcp, udp := service(proxy.TCP, toWeb, toAPI), service(proxy.UDP)
	r.sync(t, tcp, udp)
	same("after Sync")
	r.fromPod().wantAnswer(t, onCluster, bothServers, clientAddr)
	tcp.ClusterBackends = backends(toAPI)
	r.apply(t, tcp)
	same("after Apply")
	r.restart(t)
	r.sync(t, tcp)
	same("after another Sync")
	// A jump of theirs that comes while we run is theirs, too.
	script(t, r.node, "iptables-nft -I FORWARD 1 -s 203.0.113.0/24 -j DROP; iptables-legacy -I FORWARD 1 -s 203.0.113.0/24 -j DROP")
	theirs = r.foreignLines(t)
	r.sync(t, tcp)
	same("with one more rule of theirs")
	script(t, r.node, "iptables-nft -D FORWARD -s 203.0.113.0/24 -j DROP; iptables-legacy -D FORWARD -s 203.0.113.0/24 -j DROP")
	r.cleanup(t)
	if after := r.ruleset(t); after != before {
		t.Errorf("Cleanup leaves\n%s\nwant\n%s", after, before)
	}
	r.cleanup(t)
	r.restart(t)
	r.sync(t, tcp)
	r.fromPod().wantAnswer(t, onCluster, "api", clientAddr)
	r.restart(t)
	r.cleanup(t)
	if after := r.ruleset(t); after != before {
		t.Errorf("Cleanup by a new engine leaves\n%s\nwant\n%s", after, before)
	}
}
