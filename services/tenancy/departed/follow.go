package departed

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/follow"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// pageSize is how many HostSubnets are asked for at once.
const pageSize = 1000

// Run follows ipam's HostSubnets and drops the pods of nodes that are gone,
// until ctx ends. dropped is told how many went. An error means that the
// connection to NATS is closed for good.
func Run(ctx context.Context, nc *nats.Conn, ipam grpc.ClientConnInterface, pods pods, dropped func(pods int), log hclog.Logger) error {
	client := ipamv1.NewHostSubnetServiceClient(ipam)
	c := &Collector{pods: pods, ipam: client, dropped: dropped, log: log.Named("departed"), wake: make(chan struct{}, 1)}
	follower := follow.New(nc, follow.Source[*ipamv1.HostSubnet]{
		Service: "ipam", Kind: "hostsubnet",
		List: func(ctx context.Context, _ []string) ([]*ipamv1.HostSubnet, uint64, error) { return list(ctx, client) },
		Name: (*ipamv1.HostSubnet).GetName, Revision: (*ipamv1.HostSubnet).GetRevision,
	}, follow.Options[*ipamv1.HostSubnet]{
		All: true, Log: log,
		OnChange: func(e follow.Event[*ipamv1.HostSubnet]) {
			if e.Deleted {
				c.left()
			}
		},
	})
	c.members = follower
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return follower.Run(ctx) })
	group.Go(func() error { return c.look(ctx) })
	return group.Wait()
}

// list answers all HostSubnets. The sequence is the first page's, the lowest:
// what changed while the later ones were read comes on the bus too.
func list(ctx context.Context, client ipamv1.HostSubnetServiceClient) (all []*ipamv1.HostSubnet, sequence uint64, err error) {
	for token := ""; ; {
		page, err := client.ListHostSubnets(ctx, &ipamv1.ListHostSubnetsRequest{PageSize: pageSize, PageToken: token})
		if err != nil {
			return nil, 0, err
		}
		if token == "" {
			sequence = page.GetSequence()
		}
		all = append(all, page.GetHostSubnets()...)
		switch page.GetNextPageToken() {
		case "":
			return all, sequence, nil
		case token:
			return nil, 0, errors.New("ipam answers the same page again and again")
		}
		token = page.GetNextPageToken()
	}
}
