package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/follow"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/outside"
)

// listed is how many objects are asked for at once.
const listed = 1000

// followed is the agent's copy of what the control services own, as far as it
// concerns this node: address plan, HostSubnets, isolation mode, Services and
// EndpointSlices whole, NetNamespaces by interest.
type followed struct {
	networks    *follow.Follower[*ipamv1.ClusterNetwork]
	hostSubnets *follow.Follower[*ipamv1.HostSubnet]
	isolation   *follow.Follower[*tenancyv1.Isolation]
	namespaces  *follow.Follower[*tenancyv1.NetNamespace]
	services    *follow.Follower[*servicelbv1.Service]       // nil: somebody else's
	slices      *follow.Follower[*servicelbv1.EndpointSlice] // the same
}

// sink is where changes go.
type sink struct {
	node       string
	state      *intent.State
	programmer *intent.Programmer
	wake       func()          // asks for a pass
	services   *services       // nil: somebody else's
	guard      *outside.Guard  // nil: there are no firewalls
	slices     *outside.Slices // nil: the same, or services are somebody else's
	hostPorts  *hostPorts
	released   func() // this node's HostSubnet is gone
	forgotten  func() // tenancy's store is another: nobody has told it of this node's pods
	appeared   func(*ipamv1.HostSubnet)
	log        hclog.Logger
}

// take hands a change over: to the plumbing if the node itself is concerned,
// to the programmer otherwise. An object that could not be taken is remembered
// with its error, and stops nobody.
func (s *sink) take(object intent.Object, change intent.Change, err error) {
	if err != nil {
		s.log.Error("object refused, the last good one stays in force", "kind", object.Kind, "name", object.Name, "error", err)
		s.programmer.Refuse(object, err)
		return
	}
	if change.Node {
		s.wake() // a pass ends with a comparison of all flows
		s.nodesChanged()
		if s.services != nil {
			s.services.Wake()
		}
		return
	}
	s.programmer.Queue(change)
	if change.All {
		s.wake() // it may have been all that was missing
	}
}

// nodesChanged tells those who ask whether an address is a node's or a pod's, and of which node.
func (s *sink) nodesChanged() {
	if s.guard != nil {
		s.guard.Wake()
	}
	if s.slices != nil {
		s.slices.NodesChanged()
	}
	if s.services != nil {
		s.services.NodesChanged()
	}
}

// service and slice tell those who must know where services lead before they do.
func (s *sink) service(name string, service *servicelbv1.Service) {
	if s.guard != nil {
		s.guard.ServiceChanged(name, service)
	}
}

func (s *sink) slice(name string, slice *servicelbv1.EndpointSlice) {
	if s.guard != nil {
		s.guard.SliceChanged(name, slice)
	}
	if s.slices != nil {
		s.slices.SliceChanged(name, slice)
	}
}

func (s *sink) network(e follow.Event[*ipamv1.ClusterNetwork]) {
	object := intent.Object{Kind: intent.KindClusterNetwork, Name: e.Name}
	if e.Deleted {
		s.log.Warn("the ClusterNetwork is gone, the last one stays in force", "name", e.Name)
		return
	}
	change, err := s.state.SetClusterNetwork(e.Object)
	s.take(object, change, err)
}

func (s *sink) hostSubnet(e follow.Event[*ipamv1.HostSubnet]) {
	object := intent.Object{Kind: intent.KindHostSubnet, Name: e.Name}
	if e.Deleted {
		if e.Name == s.node {
			s.log.Warn("this node's HostSubnet was released, registering anew")
			s.released()
			return
		}
		s.take(object, s.state.DeleteHostSubnet(e.Name), nil)
		s.programmer.Forget(object)
		s.nodesChanged()
		return
	}
	change, err := s.state.SetHostSubnet(e.Object)
	s.take(object, change, err)
	if err == nil {
		s.appeared(e.Object)
	}
	s.nodesChanged()
	if s.hostPorts.any() {
		s.wake() // tenants' host ports are closed for other nodes
	}
}

func (s *sink) isolation(e follow.Event[*tenancyv1.Isolation]) {
	object := intent.Object{Kind: intent.KindIsolation, Name: e.Name}
	if e.Deleted {
		return // never deleted; the last mode stays in force
	}
	change, err := s.state.SetIsolation(e.Object)
	s.take(object, change, err)
}

func (s *sink) namespace(e follow.Event[*tenancyv1.NetNamespace]) {
	object := intent.Object{Kind: intent.KindNetNamespace, Name: e.Name}
	if e.Deleted {
		s.take(object, s.state.DeleteNetNamespace(e.Name), nil)
		s.programmer.Forget(object)
		return
	}
	s.take(object, s.state.SetNetNamespace(e.Object), nil)
	if s.hostPorts.has(e.Name) {
		s.wake() // it may have become a tenant's, or global
	}
}

// cacheIn answers the file that keeps what is followed of a kind.
func cacheIn(stateDir string) func(kind string) string {
	return func(kind string) string { return filepath.Join(stateDir, "followed", kind) }
}

// newFollowed makes the followers; their last state is read from stateDir.
func newFollowed(c cluster, stateDir string, s *sink, log hclog.Logger) *followed {
	nc, cache := c.bus, cacheIn(stateDir)
	networks := ipamv1.NewClusterNetworkServiceClient(c.ipam)
	subnets := ipamv1.NewHostSubnetServiceClient(c.ipam)
	isolation := tenancyv1.NewIsolationServiceClient(c.tenancy)
	namespaces := tenancyv1.NewNetNamespaceServiceClient(c.tenancy)
	f := &followed{
		networks: follow.New(nc, follow.Source[*ipamv1.ClusterNetwork]{
			Service: "ipam", Kind: "clusternetwork",
			List: func(ctx context.Context, _ []string) ([]*ipamv1.ClusterNetwork, uint64, error) {
				r, err := networks.ListClusterNetworks(ctx, &ipamv1.ListClusterNetworksRequest{})
				return r.GetClusterNetworks(), r.GetSequence(), err
			},
			Name: (*ipamv1.ClusterNetwork).GetName, Revision: (*ipamv1.ClusterNetwork).GetRevision,
		}, follow.Options[*ipamv1.ClusterNetwork]{All: true, Cache: cache("clusternetwork"), OnChange: s.network, Log: log}),

		hostSubnets: follow.New(nc, follow.Source[*ipamv1.HostSubnet]{
			Service: "ipam", Kind: "hostsubnet",
			List: func(ctx context.Context, _ []string) ([]*ipamv1.HostSubnet, uint64, error) {
				return pages(func(token string) ([]*ipamv1.HostSubnet, string, uint64, error) {
					r, err := subnets.ListHostSubnets(ctx, &ipamv1.ListHostSubnetsRequest{PageSize: listed, PageToken: token})
					return r.GetHostSubnets(), r.GetNextPageToken(), r.GetSequence(), err
				})
			},
			Name: (*ipamv1.HostSubnet).GetName, Revision: (*ipamv1.HostSubnet).GetRevision,
		}, follow.Options[*ipamv1.HostSubnet]{All: true, Cache: cache("hostsubnet"), OnChange: s.hostSubnet, Log: log}),

		isolation: follow.New(nc, follow.Source[*tenancyv1.Isolation]{
			Service: "tenancy", Kind: "isolation",
			List: func(ctx context.Context, _ []string) ([]*tenancyv1.Isolation, uint64, error) {
				r, err := isolation.GetIsolation(ctx, &tenancyv1.GetIsolationRequest{})
				if err != nil {
					return nil, 0, err
				}
				return []*tenancyv1.Isolation{r.GetIsolation()}, r.GetSequence(), nil
			},
			Name:     func(*tenancyv1.Isolation) string { return intent.IsolationName },
			Revision: (*tenancyv1.Isolation).GetRevision,
		}, follow.Options[*tenancyv1.Isolation]{All: true, Cache: cache("isolation"), OnChange: s.isolation, OnReplaced: s.forgotten, Log: log}),

		namespaces: follow.New(nc, follow.Source[*tenancyv1.NetNamespace]{
			Service: "tenancy", Kind: "netnamespace",
			List: func(ctx context.Context, names []string) ([]*tenancyv1.NetNamespace, uint64, error) {
				return named(names, func(some []string) ([]*tenancyv1.NetNamespace, uint64, error) {
					r, err := namespaces.ListNetNamespaces(ctx, &tenancyv1.ListNetNamespacesRequest{Names: some, PageSize: listed})
					return r.GetNetNamespaces(), r.GetSequence(), err
				})
			},
			Name: (*tenancyv1.NetNamespace).GetName, Revision: (*tenancyv1.NetNamespace).GetRevision,
		}, follow.Options[*tenancyv1.NetNamespace]{Cache: cache("netnamespace"), OnChange: s.namespace, OnReplaced: s.forgotten, Log: log}),
	}
	if s.services != nil {
		f.services = followServices(nc, servicelbv1.NewServiceServiceClient(c.servicelb), cache("service"), s.services.Syncer, s.service, log)
		f.slices = followSlices(nc, servicelbv1.NewEndpointSliceServiceClient(c.servicelb), cache("endpointslice"), s.services.Syncer, s.slice, log)
		if s.slices == nil {
			s.services.Follow(f.services, f.slices)
		} else {
			s.slices.Follow(f.slices)
			s.services.Follow(f.services, s.slices)
		}
	}
	return f
}

// pages collects all pages. The sequence is the first page's, the lowest:
// whatever changed while the later ones were read comes on the bus too.
func pages[T any](page func(token string) ([]T, string, uint64, error)) (all []T, sequence uint64, err error) {
	for token := ""; ; {
		objects, next, reflects, err := page(token)
		if err != nil {
			return nil, 0, err
		}
		if token == "" {
			sequence = reflects
		}
		all = append(all, objects...)
		if next == "" {
			return all, sequence, nil
		}
		if next == token {
			return nil, 0, errors.New("the service answers the same page again and again")
		}
		token = next
	}
}

// named asks for names, as many at once as the API takes.
func named[T any](names []string, list func(some []string) ([]T, uint64, error)) (all []T, sequence uint64, err error) {
	for first := true; first || len(names) > 0; first = false {
		some := names[:min(listed, len(names))]
		names = names[len(some):]
		objects, reflects, err := list(some)
		if err != nil {
			return nil, 0, fmt.Errorf("list %d names: %w", len(some), err)
		}
		if first || reflects < sequence {
			sequence = reflects
		}
		all = append(all, objects...)
	}
	return all, sequence, nil
}
