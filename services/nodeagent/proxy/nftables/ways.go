package nftables

import "github.com/damask-sdn/damask/services/nodeagent/proxy"

// way decides about masquerade and policy for a frontend. Its name is its chain's.
type way string

const (
	cluster       way = "cluster"
	external      way = "external"
	externalLocal way = "external-local"
	limited       way = "limited"
	limitedLocal  way = "limited-local"
)

// ways are all ways; what most connections go comes first.
func ways() []way { return []way{cluster, external, externalLocal, limited, limitedLocal} }

// set is the name of the set of the frontends that go this way.
func (w way) set() string { return "ways-" + string(w) }

// side is where a client is.
type side string

const (
	inside  side = "inside"  // a pod of the cluster, or the node itself
	outside side = "outside" // anywhere else
)

// refusal is what happens to clients on one side of a frontend without backends.
type refusal struct {
	side    side
	verdict proxy.Verdict
	chain   string
}

func refusals() []refusal {
	return []refusal{
		{inside, proxy.Reject, chainReject}, {inside, proxy.Drop, chainDrop},
		{outside, proxy.Reject, chainReject}, {outside, proxy.Drop, chainDrop},
	}
}

// set is the name of the set of the frontends that are refused so.
func (r refusal) set() string { return "refused-" + string(r.side) + "-" + r.chain }
