package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcdial"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// maxAnswer bounds one answer. The flows of a large node are the largest: about
// 200 bytes each.
const maxAnswer = 256 << 20

// session is the connections of one command.
type session struct {
	cluster Cluster
	source  *identity.Source
	// nodesTime is how long to wait for nodes after a change; 0: as long as the
	// command may take.
	nodesTime time.Duration

	networks   ipamv1.ClusterNetworkServiceClient
	subnets    ipamv1.HostSubnetServiceClient
	namespaces tenancyv1.NetNamespaceServiceClient
	isolation  tenancyv1.IsolationServiceClient
	pods       tenancyv1.PodRegistryServiceClient
	policies   tenancyv1.NetworkPolicyServiceClient
	services   servicelbv1.ServiceServiceClient
	slices     servicelbv1.EndpointSliceServiceClient
	egress     egressv1.EgressIPServiceClient
	leaving    egressv1.EgressNodeServiceClient
	firewalls  egressv1.EgressNetworkPolicyServiceClient

	opened []*grpc.ClientConn
}

// open finds the cluster and prepares to connect; connections are made by the
// first calls.
func (a *app) open(ctx context.Context) (*session, error) {
	cluster, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	source, err := identity.NewSource(cluster.TLS, hclog.NewNullLogger())
	if err != nil {
		return nil, fmt.Errorf("use the operator's certificate: %w", err)
	}
	s := &session{cluster: cluster, source: source}
	ipam, err := s.dial(cluster.IPAM, accessv1.Role_ROLE_IPAM)
	if err != nil {
		return nil, err
	}
	tenancy, err := s.dial(cluster.Tenancy, accessv1.Role_ROLE_TENANCY)
	if err != nil {
		s.close()
		return nil, err
	}
	servicelb, err := s.dial(cluster.ServiceLB, accessv1.Role_ROLE_SERVICELB)
	if err != nil {
		s.close()
		return nil, err
	}
	egress, err := s.dialEgress()
	if err != nil {
		s.close()
		return nil, err
	}
	s.networks = ipamv1.NewClusterNetworkServiceClient(ipam)
	s.subnets = ipamv1.NewHostSubnetServiceClient(ipam)
	s.namespaces = tenancyv1.NewNetNamespaceServiceClient(tenancy)
	s.isolation = tenancyv1.NewIsolationServiceClient(tenancy)
	s.pods = tenancyv1.NewPodRegistryServiceClient(tenancy)
	s.policies = tenancyv1.NewNetworkPolicyServiceClient(tenancy)
	s.services = servicelbv1.NewServiceServiceClient(servicelb)
	s.slices = servicelbv1.NewEndpointSliceServiceClient(servicelb)
	s.egress = egressv1.NewEgressIPServiceClient(egress)
	s.leaving = egressv1.NewEgressNodeServiceClient(egress)
	s.firewalls = egressv1.NewEgressNetworkPolicyServiceClient(egress)
	return s, nil
}

func (a *app) find(ctx context.Context) (Cluster, error) {
	if a.config != "" {
		return loadCluster(a.config)
	}
	if a.connect == nil {
		return Cluster{}, errors.New("no lab can be found here; name a cluster's file by --config")
	}
	return a.connect.Lab(ctx, a.lab)
}

func (s *session) dial(addresses []string, role accessv1.Role) (service, error) {
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: addresses, Roles: []accessv1.Role{role}, Dial: s.cluster.Dial,
	}, s.source)
	if err != nil {
		return service{}, err
	}
	s.opened = append(s.opened, conn)
	return service{ClientConnInterface: conn, name: identity.RoleName(role), addresses: addresses}, nil
}

// agent connects to a node's agent. The caller closes the connection.
func (s *session) agent(subnet *ipamv1.HostSubnet) (nodev1.NodeServiceClient, func(), error) {
	address := s.cluster.Agents[subnet.GetName()]
	if address == "" {
		if len(subnet.GetHostIps()) == 0 {
			return nil, nil, fmt.Errorf("node %s has no host IP", subnet.GetName())
		}
		port := s.cluster.AgentPort
		if port == 0 {
			port = DefaultAgentPort
		}
		address = net.JoinHostPort(subnet.GetHostIps()[0], strconv.Itoa(int(port)))
	}
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: []string{address}, Roles: []accessv1.Role{accessv1.Role_ROLE_NODE}, Dial: s.cluster.Dial,
	}, s.source)
	if err != nil {
		return nil, nil, err
	}
	return nodev1.NewNodeServiceClient(conn), func() { _ = conn.Close() }, nil
}

func (s *session) close() {
	for _, conn := range s.opened {
		_ = conn.Close()
	}
}

// everyPage collects the items of all pages. fetch answers one page's items and
// the token of the next, empty on the last.
func everyPage[T any](fetch func(token string) ([]T, string, error)) ([]T, error) {
	var all []T
	token := ""
	for {
		items, next, err := fetch(token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		token = next
	}
}

func (s *session) hostSubnets(ctx context.Context) ([]*ipamv1.HostSubnet, error) {
	return everyPage(func(token string) ([]*ipamv1.HostSubnet, string, error) {
		page, err := s.subnets.ListHostSubnets(ctx, &ipamv1.ListHostSubnetsRequest{PageToken: token})
		return page.GetHostSubnets(), page.GetNextPageToken(), err
	})
}

func (s *session) netNamespaces(ctx context.Context, names ...string) ([]*tenancyv1.NetNamespace, error) {
	return everyPage(func(token string) ([]*tenancyv1.NetNamespace, string, error) {
		page, err := s.namespaces.ListNetNamespaces(ctx, &tenancyv1.ListNetNamespacesRequest{Names: names, PageToken: token})
		return page.GetNetNamespaces(), page.GetNextPageToken(), err
	})
}

func (s *session) podList(ctx context.Context, namespace, node string) ([]*tenancyv1.Pod, error) {
	return everyPage(func(token string) ([]*tenancyv1.Pod, string, error) {
		page, err := s.pods.ListPods(ctx, &tenancyv1.ListPodsRequest{Namespace: namespace, Node: node, PageToken: token})
		return page.GetPods(), page.GetNextPageToken(), err
	})
}

func (s *session) serviceList(ctx context.Context, namespace string) ([]*servicelbv1.Service, error) {
	return everyPage(func(token string) ([]*servicelbv1.Service, string, error) {
		page, err := s.services.ListServices(ctx, &servicelbv1.ListServicesRequest{Namespaces: oneOrAll(namespace), PageToken: token})
		return page.GetServices(), page.GetNextPageToken(), err
	})
}

// endpointSlices answers the slices of all services, of a namespace's, or of one.
func (s *session) endpointSlices(ctx context.Context, namespace, service string) ([]*servicelbv1.EndpointSlice, error) {
	return everyPage(func(token string) ([]*servicelbv1.EndpointSlice, string, error) {
		page, err := s.slices.ListEndpointSlices(ctx, &servicelbv1.ListEndpointSlicesRequest{
			Namespaces: oneOrAll(namespace), ServiceName: service, PageToken: token,
		}, grpc.MaxCallRecvMsgSize(maxAnswer))
		return page.GetEndpointSlices(), page.GetNextPageToken(), err
	})
}

// oneOrAll is the list of a name; none means all.
func oneOrAll(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}
