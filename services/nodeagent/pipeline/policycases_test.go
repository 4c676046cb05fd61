package pipeline_test

import (
	"net/netip"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

func inMode(n pipeline.Node, mode pipeline.Mode) pipeline.Node {
	n.Mode = mode
	return n
}

func keeping(n pipeline.Node) pipeline.Node {
	n.KeepConnections = true
	return n
}

// policies are of every tier and action, for shop/web, and a pod that waits for one.
func policies() []pipeline.Fragment { return policiesThatTell(policyflow.Logging{}) }

// loggedPolicies are the same, and all that they decide is logged.
func loggedPolicies() []pipeline.Fragment {
	return policiesThatTell(policyflow.Logging{Denied: true, Allowed: true})
}

func policiesThatTell(l policyflow.Logging) []pipeline.Fragment {
	book, err := policyflow.New(policyflow.Tables())
	if err != nil {
		panic(err)
	}
	book.SetLogging("shop", l)
	book.SetGroup("web", []policy.Member{{Addr: netip.MustParseAddr("10.131.0.4")}})
	web := policy.Pod{Namespace: "shop", Name: "web", Addresses: addresses("10.130.0.5")}
	for _, tier := range []policy.Tier{policy.Admin, policy.Namespace, policy.Baseline} {
		p := policy.Policy{Key: policy.Key{Kind: "K", Name: string(rune('0' + tier))}, Tier: tier}
		p.Ingress, p.Egress = tier == policy.Namespace, tier == policy.Namespace
		for _, direction := range []policy.Direction{policy.Ingress, policy.Egress} {
			for _, action := range []policy.Action{policy.Allow, policy.Deny, policy.Pass} {
				if tier == policy.Namespace && action != policy.Allow {
					continue
				}
				p.Rules = append(p.Rules, policy.Rule{
					Direction: direction, Action: action, Peers: []policy.Peer{{Group: "web"}},
					Ports: []policy.PortRange{{Protocol: policy.TCP, First: 80, Last: 81}},
				})
			}
		}
		if err := book.SetPolicy(p); err != nil {
			panic(err)
		}
		web.Policies = append(web.Policies, p.Key)
	}
	book.SetPod(web)
	book.SetPod(policy.Pod{Namespace: "bank", Name: "web", Addresses: addresses("10.130.0.7"), Policies: []policy.Key{{Kind: "K", Name: "unknown"}}})
	return append([]pipeline.Fragment{policyflow.Tables().Base()}, book.Drain()...)
}
