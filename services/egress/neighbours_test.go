package egress

import (
	"context"
	"fmt"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// neighbour is another service: a real bucket, which changes on the real bus,
// and a server over it.
type neighbour struct {
	t       testing.TB
	bucket  *bucket.Bucket
	conn    grpc.ClientConnInterface
	address string
}

// startNeighbour opens a service's bucket, and serves it.
func (s *system) startNeighbour(name string, role accessv1.Role, register func(grpc.ServiceRegistrar, *neighbour)) *neighbour {
	t := s.t
	t.Helper()
	id, log := identitytest.Service(t, name), hclog.NewNullLogger()
	nc := s.connect(id)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	n := &neighbour{t: t}
	if n.bucket, err = bucket.Open(soon(t), js, nc, bucket.Config{Name: natsd.BucketName(name), Subject: bus.Prefix(name)}, log); err != nil {
		t.Fatal(err)
	}
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, s.ca.Source(t, id), log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(on grpc.ServiceRegistrar) { register(on, n) })
	srv.SetReady(true)
	background(t, n.bucket.Run)
	background(t, srv.Run)
	n.address = srv.Addr().String()
	conn, err := rpcdial.New(rpcdial.Config{Addresses: []string{n.address}, Roles: []accessv1.Role{role}},
		s.ca.Source(t, identitytest.Service(t, serviceName)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.conn = conn
	return n
}

func (n *neighbour) update(do func(tx *bucket.Tx)) {
	n.t.Helper()
	if _, err := n.bucket.Update(soon(n.t), func(tx *bucket.Tx) error { do(tx); return nil }); err != nil {
		n.t.Fatal(err)
	}
}

// ipam serves the address plan and HostSubnets.
type ipam struct {
	ipamv1.UnimplementedClusterNetworkServiceServer
	ipamv1.UnimplementedHostSubnetServiceServer
	*neighbour
}

func plans() bucket.Table[*ipamv1.ClusterNetwork] {
	return bucket.NewTable[*ipamv1.ClusterNetwork]("clusternetwork")
}

func subnets() bucket.Table[*ipamv1.HostSubnet] {
	return bucket.NewTable[*ipamv1.HostSubnet]("hostsubnet")
}

func (i *ipam) ListClusterNetworks(context.Context, *ipamv1.ListClusterNetworksRequest) (*ipamv1.ListClusterNetworksResponse, error) {
	snapshot := i.bucket.Snapshot()
	list, err := plans().List(snapshot)
	return &ipamv1.ListClusterNetworksResponse{ClusterNetworks: list, Sequence: snapshot.Sequence()}, err
}

func (i *ipam) ListHostSubnets(context.Context, *ipamv1.ListHostSubnetsRequest) (*ipamv1.ListHostSubnetsResponse, error) {
	snapshot := i.bucket.Snapshot()
	list, err := subnets().List(snapshot)
	return &ipamv1.ListHostSubnetsResponse{HostSubnets: list, Sequence: snapshot.Sequence()}, err
}

// startIPAM starts an ipam with a plan and no nodes.
func (s *system) startIPAM() {
	i := &ipam{}
	s.ipam = i
	i.neighbour = s.startNeighbour("ipam", accessv1.Role_ROLE_IPAM, func(on grpc.ServiceRegistrar, n *neighbour) {
		i.neighbour = n
		ipamv1.RegisterClusterNetworkServiceServer(on, i)
		ipamv1.RegisterHostSubnetServiceServer(on, i)
	})
	i.update(func(tx *bucket.Tx) {
		plans().Put(tx, &ipamv1.ClusterNetwork{
			Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}}, ServiceNetworks: []string{"172.30.0.0/16"},
		}, "default")
	})
}

// register registers nodes n1, n2, … up to a number.
func (i *ipam) register(nodes int) {
	i.t.Helper()
	i.update(func(tx *bucket.Tx) {
		for n := 1; n <= nodes; n++ {
			name := fmt.Sprintf("n%d", n)
			subnets().Put(tx, &ipamv1.HostSubnet{
				Name: name, Host: name, HostIps: []string{fmt.Sprintf("192.0.2.%d", 100+n)}, Subnets: []string{fmt.Sprintf("10.128.%d.0/23", 2*n)},
			}, name)
		}
	})
}

func (i *ipam) release(node string) {
	i.t.Helper()
	i.update(func(tx *bucket.Tx) { subnets().Delete(tx, node) })
}

// tenancy serves VNIDs and pods.
type tenancy struct {
	tenancyv1.UnimplementedNetNamespaceServiceServer
	tenancyv1.UnimplementedPodRegistryServiceServer
	*neighbour
}

func namespaces() bucket.Table[*tenancyv1.NetNamespace] {
	return bucket.NewTable[*tenancyv1.NetNamespace]("netnamespace")
}

func pods() bucket.Table[*tenancyv1.Pod] { return bucket.NewTable[*tenancyv1.Pod]("pod") }

func (y *tenancy) ListNetNamespaces(context.Context, *tenancyv1.ListNetNamespacesRequest) (*tenancyv1.ListNetNamespacesResponse, error) {
	snapshot := y.bucket.Snapshot()
	list, err := namespaces().List(snapshot)
	return &tenancyv1.ListNetNamespacesResponse{NetNamespaces: list, Sequence: snapshot.Sequence()}, err
}

func (y *tenancy) ListPods(context.Context, *tenancyv1.ListPodsRequest) (*tenancyv1.ListPodsResponse, error) {
	snapshot := y.bucket.Snapshot()
	list, err := pods().List(snapshot)
	return &tenancyv1.ListPodsResponse{Pods: list, Sequence: snapshot.Sequence()}, err
}

// startTenancy starts a tenancy without namespaces.
func (s *system) startTenancy() {
	y := &tenancy{}
	s.tenancy = y
	y.neighbour = s.startNeighbour("tenancy", accessv1.Role_ROLE_TENANCY, func(on grpc.ServiceRegistrar, n *neighbour) {
		y.neighbour = n
		tenancyv1.RegisterNetNamespaceServiceServer(on, y)
		tenancyv1.RegisterPodRegistryServiceServer(on, y)
	})
}

func (y *tenancy) netid(namespace string, id uint32) {
	y.t.Helper()
	y.update(func(tx *bucket.Tx) {
		namespaces().Put(tx, &tenancyv1.NetNamespace{Name: namespace, Netname: namespace, Netid: id}, namespace)
	})
}

func (y *tenancy) pod(namespace, name, ip string, labels map[string]string) {
	y.t.Helper()
	y.update(func(tx *bucket.Tx) {
		pods().Put(tx, &tenancyv1.Pod{Namespace: namespace, Name: name, Node: "n1", Ips: []string{ip}, Labels: labels, SandboxId: "s"}, namespace, name)
	})
}
