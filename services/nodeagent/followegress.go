package nodeagent

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/follow"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// egressFollowed is the agent's copy of what egress decides, as far as it concerns this
// node: how the namespaces of its pods leave, the pods of these and of those that it
// hosts for, and what it hosts.
type egressFollowed struct {
	assignments *follow.Follower[*egressv1.EgressAssignment]
	pods        *follow.Follower[*egressv1.EgressPods]
	hosting     *follow.Follower[*egressv1.EgressHosting]
}

// followEgress makes the followers; their last state is read from stateDir. Changes go to
// the part for egress IPs, which looks at the followers itself.
func followEgress(nc *nats.Conn, egress grpc.ClientConnInterface, cache func(kind string) string, to *egress, log hclog.Logger) *egressFollowed {
	client := egressv1.NewEgressIPServiceClient(egress)
	return &egressFollowed{
		assignments: follow.New(nc, follow.Source[*egressv1.EgressAssignment]{
			Service: "egress", Kind: "egressassignment", Nested: true,
			List: func(ctx context.Context, names []string) ([]*egressv1.EgressAssignment, uint64, error) {
				return namedPages(names, func(some []string, token string) ([]*egressv1.EgressAssignment, string, uint64, error) {
					r, err := client.ListEgressAssignments(ctx, &egressv1.ListEgressAssignmentsRequest{Namespaces: some, PageSize: listed, PageToken: token})
					return r.GetEgressAssignments(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name:     func(a *egressv1.EgressAssignment) string { return a.GetNamespace() + "/" + a.GetSelection() },
			Revision: (*egressv1.EgressAssignment).GetRevision,
		}, follow.Options[*egressv1.EgressAssignment]{Cache: cache("egressassignment"), Log: log, OnChange: func(e follow.Event[*egressv1.EgressAssignment]) {
			to.assignmentChanged(e.Name)
		}}),

		pods: follow.New(nc, follow.Source[*egressv1.EgressPods]{
			Service: "egress", Kind: "egresspods", Nested: true,
			List: func(ctx context.Context, names []string) ([]*egressv1.EgressPods, uint64, error) {
				return namedPages(names, func(some []string, token string) ([]*egressv1.EgressPods, string, uint64, error) {
					r, err := client.ListEgressPods(ctx, &egressv1.ListEgressPodsRequest{Namespaces: some, PageSize: listed, PageToken: token})
					return r.GetEgressPods(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name:     func(p *egressv1.EgressPods) string { return p.GetNamespace() + "/" + p.GetSelection() },
			Revision: (*egressv1.EgressPods).GetRevision,
		}, follow.Options[*egressv1.EgressPods]{Cache: cache("egresspods"), Log: log, OnChange: func(e follow.Event[*egressv1.EgressPods]) {
			to.podsChanged(e.Name)
		}}),

		hosting: follow.New(nc, follow.Source[*egressv1.EgressHosting]{
			Service: "egress", Kind: "egresshosting",
			List: func(ctx context.Context, names []string) ([]*egressv1.EgressHosting, uint64, error) {
				return named(names, func(some []string) ([]*egressv1.EgressHosting, uint64, error) {
					r, err := client.ListEgressHostings(ctx, &egressv1.ListEgressHostingsRequest{Nodes: some, PageSize: listed})
					return r.GetEgressHostings(), r.GetSequence(), err
				})
			},
			Name: (*egressv1.EgressHosting).GetNode, Revision: (*egressv1.EgressHosting).GetRevision,
		}, follow.Options[*egressv1.EgressHosting]{Cache: cache("egresshosting"), Log: log, OnChange: func(follow.Event[*egressv1.EgressHosting]) {
			to.hostingChanged()
		}}),
	}
}

// namedPages asks for names, as many at once as the API takes, and for all pages of each
// answer.
func namedPages[T any](names []string, page func(some []string, token string) ([]T, string, uint64, error)) ([]T, uint64, error) {
	return named(names, func(some []string) ([]T, uint64, error) {
		return pages(func(token string) ([]T, string, uint64, error) { return page(some, token) })
	})
}
