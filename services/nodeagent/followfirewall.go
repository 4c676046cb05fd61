package nodeagent

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/follow"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// firewallsFollowed is the agent's copy of the firewalls that this node programs, and of
// the addresses of names in them.
type firewallsFollowed struct {
	policies *follow.Follower[*egressv1.EgressNetworkPolicy]
	names    *follow.Follower[*egressv1.DNSName]
}

// followFirewalls makes the followers. Changes go to the part for firewalls, which looks at
// the followers itself.
func followFirewalls(nc *nats.Conn, client egressv1.EgressNetworkPolicyServiceClient, cache func(kind string) string, to *firewalls, log hclog.Logger) *firewallsFollowed {
	return &firewallsFollowed{
		policies: follow.New(nc, follow.Source[*egressv1.EgressNetworkPolicy]{
			Service: "egress", Kind: "egressnetworkpolicy", Nested: true,
			List: func(ctx context.Context, names []string) ([]*egressv1.EgressNetworkPolicy, uint64, error) {
				return namedPages(names, func(some []string, token string) ([]*egressv1.EgressNetworkPolicy, string, uint64, error) {
					r, err := client.ListEgressNetworkPolicies(ctx, &egressv1.ListEgressNetworkPoliciesRequest{Namespaces: some, PageSize: listed, PageToken: token})
					return r.GetEgressNetworkPolicies(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name:     func(p *egressv1.EgressNetworkPolicy) string { return p.GetNamespace() + "/" + p.GetName() },
			Revision: (*egressv1.EgressNetworkPolicy).GetRevision,
		}, follow.Options[*egressv1.EgressNetworkPolicy]{Cache: cache("egressnetworkpolicy"), Log: log, OnChange: func(e follow.Event[*egressv1.EgressNetworkPolicy]) {
			to.policyChanged(e.Name)
		}}),

		names: follow.New(nc, follow.Source[*egressv1.DNSName]{
			Service: "egress", Kind: "dnsname",
			List: func(ctx context.Context, names []string) ([]*egressv1.DNSName, uint64, error) {
				return namedPages(names, func(some []string, token string) ([]*egressv1.DNSName, string, uint64, error) {
					r, err := client.ListDNSNames(ctx, &egressv1.ListDNSNamesRequest{Names: some, PageSize: listed, PageToken: token})
					return r.GetDnsNames(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name: (*egressv1.DNSName).GetName, Revision: (*egressv1.DNSName).GetRevision,
		}, follow.Options[*egressv1.DNSName]{Cache: cache("dnsname"), Log: log, OnChange: func(e follow.Event[*egressv1.DNSName]) {
			to.nameChanged(e.Name)
		}}),
	}
}
