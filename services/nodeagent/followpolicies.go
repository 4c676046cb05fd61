package nodeagent

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/follow"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// policiesFollowed is the agent's copy of what policies come down to, as far as it
// concerns this node: which apply to its pods, these, and the groups that they name.
type policiesFollowed struct {
	pods     *follow.Follower[*tenancyv1.PodPolicies]
	policies *follow.Follower[*tenancyv1.ResolvedPolicy]
	groups   *follow.Follower[*tenancyv1.AddressGroupShard]
}

// followPolicies makes the followers; their last state is read from stateDir. Changes
// go to the part for policies, which looks at the followers itself.
func followPolicies(nc *nats.Conn, tenancy *grpc.ClientConn, cache func(kind string) string, to *policies, log hclog.Logger) *policiesFollowed {
	client := tenancyv1.NewResolvedPolicyServiceClient(tenancy)
	return &policiesFollowed{
		pods: follow.New(nc, follow.Source[*tenancyv1.PodPolicies]{
			Service: "tenancy", Kind: policywire.KindPodPolicies, Nested: true,
			List: func(ctx context.Context, nodes []string) (all []*tenancyv1.PodPolicies, sequence uint64, err error) {
				for i, node := range nodes { // This node alone.
					some, reflects, err := pages(func(token string) ([]*tenancyv1.PodPolicies, string, uint64, error) {
						r, err := client.ListPodPolicies(ctx, &tenancyv1.ListPodPoliciesRequest{Node: node, PageSize: listed, PageToken: token})
						return r.GetPods(), r.GetNextPageToken(), r.GetSequence(), err
					})
					if err != nil {
						return nil, 0, err
					}
					if all = append(all, some...); i == 0 || reflects < sequence {
						sequence = reflects
					}
				}
				return all, sequence, nil
			},
			Name: policywire.NameOfPod, Revision: (*tenancyv1.PodPolicies).GetRevision,
		}, follow.Options[*tenancyv1.PodPolicies]{Cache: cache(policywire.KindPodPolicies), Log: log, OnChange: func(e follow.Event[*tenancyv1.PodPolicies]) {
			to.podChanged(e.Name)
		}}),

		policies: follow.New(nc, follow.Source[*tenancyv1.ResolvedPolicy]{
			Service: "tenancy", Kind: policywire.KindPolicy,
			List: func(ctx context.Context, names []string) ([]*tenancyv1.ResolvedPolicy, uint64, error) {
				return namedPages(names, func(some []string, token string) ([]*tenancyv1.ResolvedPolicy, string, uint64, error) {
					r, err := client.ListResolvedPolicies(ctx, &tenancyv1.ListResolvedPoliciesRequest{Names: some, PageSize: listed, PageToken: token})
					return r.GetPolicies(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name: policywire.NameOfPolicy, Revision: (*tenancyv1.ResolvedPolicy).GetRevision,
		}, follow.Options[*tenancyv1.ResolvedPolicy]{Cache: cache(policywire.KindPolicy), Log: log, OnChange: func(e follow.Event[*tenancyv1.ResolvedPolicy]) {
			to.policyChanged(e.Name)
		}}),

		groups: follow.New(nc, follow.Source[*tenancyv1.AddressGroupShard]{
			Service: "tenancy", Kind: policywire.KindAddressGroup, Nested: true,
			List: func(ctx context.Context, names []string) ([]*tenancyv1.AddressGroupShard, uint64, error) {
				return namedPages(names, func(some []string, token string) ([]*tenancyv1.AddressGroupShard, string, uint64, error) {
					r, err := client.ListAddressGroupShards(ctx, &tenancyv1.ListAddressGroupShardsRequest{Groups: some, PageSize: listed, PageToken: token})
					return r.GetShards(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name: policywire.NameOfShard, Revision: (*tenancyv1.AddressGroupShard).GetRevision,
		}, follow.Options[*tenancyv1.AddressGroupShard]{Cache: cache(policywire.KindAddressGroup), Log: log, OnChange: func(e follow.Event[*tenancyv1.AddressGroupShard]) {
			to.groupChanged(e.Name)
		}}),
	}
}
