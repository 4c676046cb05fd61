package facts

import (
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/follow"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// pageSize is how many objects are asked for at once.
const pageSize = 1000

// Neighbours are the services that others' facts come from.
type Neighbours struct {
	IPAM, Tenancy grpc.ClientConnInterface
}

// Follow keeps the copies of what other services own until ctx ends. It calls
// complete once, when all are known. An error means that the connection to NATS
// is closed for good.
func (b *Book) Follow(ctx context.Context, nc *nats.Conn, from Neighbours, complete func(), log hclog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	var waits []func(context.Context) error
	waits = append(waits,
		start(ctx, group, nc, hostSubnets(from.IPAM), b.SetHostSubnet, log),
		start(ctx, group, nc, clusterNetworks(from.IPAM), func(_ string, plan *ipamv1.ClusterNetwork) {
			if plan != nil {
				b.SetClusterNetwork(plan)
			}
		}, log),
		start(ctx, group, nc, netNamespaces(from.Tenancy), b.SetNetNamespace, log),
		start(ctx, group, nc, pods(from.Tenancy), func(name string, pod *tenancyv1.Pod) {
			namespace, name, _ := strings.Cut(name, "/")
			b.SetPod(namespace, name, pod)
		}, log))
	group.Go(func() error {
		for _, wait := range waits {
			if wait(ctx) != nil {
				return nil // ctx has ended
			}
		}
		complete()
		return nil
	})
	return group.Wait()
}

// start follows a source whole, and answers what waits until it is known.
func start[T interface {
	proto.Message
	comparable
}](ctx context.Context, group *errgroup.Group, nc *nats.Conn, source follow.Source[T], take func(name string, object T), log hclog.Logger) func(context.Context) error {
	var follower *follow.Follower[T]
	follower = follow.New(nc, source, follow.Options[T]{All: true, Log: log, OnChange: func(e follow.Event[T]) {
		// The newest, which may be newer than the event: both tellers below agree
		// on it, whoever comes last.
		object, _ := follower.Get(e.Name)
		take(e.Name, object)
	}})
	group.Go(func() error { return follower.Run(ctx) })
	return func(ctx context.Context) error {
		if err := follower.Synced(ctx); err != nil {
			return err
		}
		// The copy is complete, but its changes may not all have been told yet.
		for name, object := range follower.Snapshot() {
			take(name, object)
		}
		return nil
	}
}

// pages reads all pages of a list. The sequence is the first page's, the lowest.
func pages[T any](list func(token string) (objects []T, next string, sequence uint64, err error)) (all []T, sequence uint64, err error) {
	for token := ""; ; {
		objects, next, at, err := list(token)
		if err != nil {
			return nil, 0, err
		}
		if token == "" {
			sequence = at
		}
		all = append(all, objects...)
		switch next {
		case "":
			return all, sequence, nil
		case token:
			return nil, 0, errors.New("the same page comes again and again")
		}
		token = next
	}
}

func hostSubnets(conn grpc.ClientConnInterface) follow.Source[*ipamv1.HostSubnet] {
	client := ipamv1.NewHostSubnetServiceClient(conn)
	return follow.Source[*ipamv1.HostSubnet]{
		Service: "ipam", Kind: "hostsubnet", Name: (*ipamv1.HostSubnet).GetName, Revision: (*ipamv1.HostSubnet).GetRevision,
		List: func(ctx context.Context, _ []string) ([]*ipamv1.HostSubnet, uint64, error) {
			return pages(func(token string) ([]*ipamv1.HostSubnet, string, uint64, error) {
				p, err := client.ListHostSubnets(ctx, &ipamv1.ListHostSubnetsRequest{PageSize: pageSize, PageToken: token})
				return p.GetHostSubnets(), p.GetNextPageToken(), p.GetSequence(), err
			})
		},
	}
}

func clusterNetworks(conn grpc.ClientConnInterface) follow.Source[*ipamv1.ClusterNetwork] {
	client := ipamv1.NewClusterNetworkServiceClient(conn)
	return follow.Source[*ipamv1.ClusterNetwork]{
		Service: "ipam", Kind: "clusternetwork", Name: (*ipamv1.ClusterNetwork).GetName, Revision: (*ipamv1.ClusterNetwork).GetRevision,
		List: func(ctx context.Context, _ []string) ([]*ipamv1.ClusterNetwork, uint64, error) {
			p, err := client.ListClusterNetworks(ctx, &ipamv1.ListClusterNetworksRequest{})
			return p.GetClusterNetworks(), p.GetSequence(), err
		},
	}
}

func netNamespaces(conn grpc.ClientConnInterface) follow.Source[*tenancyv1.NetNamespace] {
	client := tenancyv1.NewNetNamespaceServiceClient(conn)
	return follow.Source[*tenancyv1.NetNamespace]{
		Service: "tenancy", Kind: "netnamespace", Name: (*tenancyv1.NetNamespace).GetName, Revision: (*tenancyv1.NetNamespace).GetRevision,
		List: func(ctx context.Context, _ []string) ([]*tenancyv1.NetNamespace, uint64, error) {
			return pages(func(token string) ([]*tenancyv1.NetNamespace, string, uint64, error) {
				p, err := client.ListNetNamespaces(ctx, &tenancyv1.ListNetNamespacesRequest{PageSize: pageSize, PageToken: token})
				return p.GetNetNamespaces(), p.GetNextPageToken(), p.GetSequence(), err
			})
		},
	}
}

func pods(conn grpc.ClientConnInterface) follow.Source[*tenancyv1.Pod] {
	client := tenancyv1.NewPodRegistryServiceClient(conn)
	return follow.Source[*tenancyv1.Pod]{
		Service: "tenancy", Kind: "pod", Nested: true, Revision: (*tenancyv1.Pod).GetRevision,
		Name: func(p *tenancyv1.Pod) string { return p.GetNamespace() + "/" + p.GetName() },
		List: func(ctx context.Context, _ []string) ([]*tenancyv1.Pod, uint64, error) {
			return pages(func(token string) ([]*tenancyv1.Pod, string, uint64, error) {
				p, err := client.ListPods(ctx, &tenancyv1.ListPodsRequest{PageSize: pageSize, PageToken: token})
				return p.GetPods(), p.GetNextPageToken(), p.GetSequence(), err
			})
		},
	}
}
