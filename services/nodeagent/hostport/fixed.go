package hostport

// The two tables that have rules of ours.
const (
	tableNAT = "nat"
	tableRaw = "raw"
)

// shared is a rule of ours in a built-in chain.
type shared struct{ table, chain, rule string }

// sharedRules are those of every node. The jumps and the masquerading of loopback are
// kubelet's, word by word.
//
// The loopback's packets leave by the gateway device only because of route_localnet,
// which would let pods reach the node's own loopback too: the rule in table raw, before
// connection tracking, keeps that closed. Answers still have the gateway's address there.
func sharedRules(n Node) []shared {
	portals := comment("kube hostport portals") + " -m addrtype --dst-type LOCAL -j " + chainHostPorts
	return []shared{
		{tableRaw, "PREROUTING", "-d 127.0.0.0/8 -i " + n.gateway() + " " + comment("pods stay off the loopback of their node") + " -j DROP"},
		{tableNAT, "PREROUTING", portals},
		{tableNAT, "OUTPUT", portals},
		{tableNAT, "POSTROUTING", "-s 127.0.0.0/8 -o " + n.gateway() + " " + comment("SNAT for localhost access to hostports") + " -j MASQUERADE"},
		{tableNAT, "POSTROUTING", "-o " + n.gateway() + " -m mark --mark " + bit(n) + " " + comment("pods that ask their own hostports") + " -j MASQUERADE"},
	}
}
