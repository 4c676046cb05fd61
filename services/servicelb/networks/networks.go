// Package networks tells from which networks cluster IPs come, by following
// ipam's address plan.
//
// It promises to tell of each plan that can be used, and to keep the last one
// while ipam is away or has none. It must not write to ipam.
package networks

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/follow"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/servicelb/pool"
)

// Run follows the address plan until ctx ends. set is told of the service
// networks, one call at a time. An error means that the connection to NATS is
// closed for good.
func Run(ctx context.Context, nc *nats.Conn, ipam grpc.ClientConnInterface, set func([]pool.Span) error, log hclog.Logger) error {
	client := ipamv1.NewClusterNetworkServiceClient(ipam)
	return follow.New(nc, follow.Source[*ipamv1.ClusterNetwork]{
		Service: "ipam", Kind: "clusternetwork",
		List: func(ctx context.Context, _ []string) ([]*ipamv1.ClusterNetwork, uint64, error) {
			answer, err := client.ListClusterNetworks(ctx, &ipamv1.ListClusterNetworksRequest{})
			if err != nil {
				return nil, 0, err
			}
			return answer.GetClusterNetworks(), answer.GetSequence(), nil
		},
		Name: (*ipamv1.ClusterNetwork).GetName, Revision: (*ipamv1.ClusterNetwork).GetRevision,
	}, follow.Options[*ipamv1.ClusterNetwork]{
		All: true, Log: log,
		OnChange: func(e follow.Event[*ipamv1.ClusterNetwork]) {
			if e.Deleted {
				log.Warn("the address plan is gone, the last service networks stay in force", "name", e.Name)
				return
			}
			if err := take(e.Object, set); err != nil {
				log.Error("the address plan cannot be used, the last service networks stay in force", "name", e.Name, "error", err)
				return
			}
			log.Info("service networks are known", "networks", e.Object.GetServiceNetworks())
		},
	}).Run(ctx)
}

func take(plan *ipamv1.ClusterNetwork, set func([]pool.Span) error) error {
	var spans []pool.Span
	for i, text := range plan.GetServiceNetworks() {
		span, err := pool.ServiceNetwork(text)
		if err != nil {
			return fmt.Errorf("service network %d: %w", i, err)
		}
		spans = append(spans, span)
	}
	return set(spans)
}
