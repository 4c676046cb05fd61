package server_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	"github.com/damask-sdn/damask/services/ipam/server"
)

// service is both services on a real store and a real server, and a client
// that is an operator.
type service struct {
	networks    ipamv1.ClusterNetworkServiceClient
	hostSubnets ipamv1.HostSubnetServiceClient
	nats        *natsdtest.Server
}

func start(t *testing.T) service {
	t.Helper()
	nats := natsdtest.New(t)
	js, nc := nats.JetStream()
	b, err := bucket.Open(soon(t), js, nc, bucket.Config{Name: "ipam", Subject: "test.ipam"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ca := identitytest.New(t)
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, ca.Source(t, identitytest.Service(t, "ipam")), hclog.NewNullLogger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(r grpc.ServiceRegistrar) { server.Register(r, allocation.New(b, nil)) })
	srv.SetReady(true)
	run(t, b.Run)
	run(t, srv.Run)
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: []string{srv.Addr().String()}, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM},
	}, ca.Source(t, identity.Operator("test")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return service{ipamv1.NewClusterNetworkServiceClient(conn), ipamv1.NewHostSubnetServiceClient(conn), nats}
}

func run(t *testing.T, part func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// usual is OpenShift's default plan.
func usual() *ipamv1.ClusterNetwork {
	return &ipamv1.ClusterNetwork{
		Networks:        []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}},
		ServiceNetworks: []string{"172.30.0.0/16"},
	}
}

func (s service) create(t *testing.T, m *ipamv1.ClusterNetwork) *ipamv1.ClusterNetwork {
	t.Helper()
	answer, err := s.networks.CreateClusterNetwork(soon(t), &ipamv1.CreateClusterNetworkRequest{ClusterNetwork: m})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetClusterNetwork()
}

func (s service) allocate(t *testing.T, node string, ip string) *ipamv1.HostSubnet {
	t.Helper()
	answer, err := s.hostSubnets.AllocateHostSubnet(soon(t), &ipamv1.AllocateHostSubnetRequest{Node: node, NodeUid: "uid-" + node, HostIps: []string{ip}})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetHostSubnet()
}

// mustFail compares an error with "CODE REASON message".
func mustFail(t *testing.T, err error, want string) {
	t.Helper()
	if got := fmt.Sprint(status.Code(err), " ", rpcerr.Reason(err), " ", rpcerr.Message(err)); err == nil || got != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestErrorsOfHostSubnetsAreThoseThatTheAPIPromises(t *testing.T) {
	s := start(t)
	allocate := func(r *ipamv1.AllocateHostSubnetRequest) error {
		_, err := s.hostSubnets.AllocateHostSubnet(soon(t), r)
		return err
	}
	good := &ipamv1.AllocateHostSubnetRequest{Node: "n1", NodeUid: "u1", HostIps: []string{"192.0.2.1"}}
	mustFail(t, allocate(good), "FailedPrecondition NO_CLUSTER_NETWORK there is no cluster network yet; an operator must create it")
	m := usual()
	m.Networks[0] = &ipamv1.ClusterNetworkEntry{Cidr: "10.1.0.0/24", HostSubnetLength: 8}
	s.create(t, m)
	mustFail(t, allocate(&ipamv1.AllocateHostSubnetRequest{}),
		"InvalidArgument INVALID_FIELD node: required; node_uid: required; host_ips: 0 addresses; exactly one is required today")
	err := allocate(&ipamv1.AllocateHostSubnetRequest{
		Node: "N1", NodeUid: "a\nb" + strings.Repeat("x", 130), HostIps: []string{"127.0.0.1", "::1", "x", "224.0.0.1"},
		RequestedSubnets: []string{"10.1.0.1/24", "fd00::/64", "y"},
	})
	var fields []string
	for _, v := range rpcerr.List(err) {
		fields = append(fields, v.Field)
	}
	want := []string{"node", "node_uid", "node_uid", "host_ips", "host_ips[0]", "host_ips[1]", "host_ips[2]", "host_ips[3]",
		"requested_subnets", "requested_subnets[0]", "requested_subnets[1]", "requested_subnets[2]"}
	if !slices.Equal(fields, want) {
		t.Errorf("violations of %v, want %v: %v", fields, want, err)
	}
	if err := allocate(good); err != nil {
		t.Fatal(err)
	}
	mustFail(t, allocate(&ipamv1.AllocateHostSubnetRequest{Node: "n2", NodeUid: "u2", HostIps: []string{"192.0.2.2"}}),
		"ResourceExhausted EXHAUSTED no subnet is left for node n2: every one of 10.1.0.0/24 by /24 (1 subnets) is in use")
	mustFail(t, allocate(&ipamv1.AllocateHostSubnetRequest{Node: "n2", NodeUid: "u2", HostIps: []string{"192.0.2.2"}, RequestedSubnets: []string{"10.1.0.0/24"}}),
		"FailedPrecondition OVERLAP subnet 10.1.0.0/24 belongs to node n1")
	mustFail(t, allocate(&ipamv1.AllocateHostSubnetRequest{Node: "n1", NodeUid: "u1", HostIps: []string{"192.0.2.1"}, RequestedSubnets: []string{"10.2.0.0/24"}}),
		"FailedPrecondition IN_USE node n1 has 10.1.0.0/24 and cannot get 10.2.0.0/24; release it first")

	_, err = s.hostSubnets.GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "n2"})
	mustFail(t, err, "NotFound NOT_FOUND node n2 has no subnet")
	_, err = s.hostSubnets.GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "n2."})
	mustFail(t, err, `InvalidArgument INVALID_FIELD node: "n2." is not a DNS-1123 subdomain (lower case letters, digits, hyphens and dots)`)
	_, err = s.hostSubnets.ReleaseHostSubnet(soon(t), &ipamv1.ReleaseHostSubnetRequest{Node: "n1", NodeUid: "u0"})
	mustFail(t, err, `FailedPrecondition STALE_REVISION node n1 is another machine now: its uid is "u1", not "u0"`)
	for range 2 {
		if _, err := s.hostSubnets.ReleaseHostSubnet(soon(t), &ipamv1.ReleaseHostSubnetRequest{Node: "n1", NodeUid: "u1"}); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsOfClusterNetworksAreThoseThatTheAPIPromises(t *testing.T) {
	s := start(t)
	create := func(m *ipamv1.ClusterNetwork) error {
		_, err := s.networks.CreateClusterNetwork(soon(t), &ipamv1.CreateClusterNetworkRequest{ClusterNetwork: m})
		return err
	}
	update := func(m *ipamv1.ClusterNetwork) error {
		_, err := s.networks.UpdateClusterNetwork(soon(t), &ipamv1.UpdateClusterNetworkRequest{ClusterNetwork: m})
		return err
	}
	_, err := s.networks.GetClusterNetwork(soon(t), &ipamv1.GetClusterNetworkRequest{})
	mustFail(t, err, "NotFound NOT_FOUND there is no cluster network yet")
	mustFail(t, update(usual()), "NotFound NOT_FOUND there is no cluster network to update")
	mustFail(t, create(nil), "InvalidArgument INVALID_FIELD cluster_network: required")
	mustFail(t, create(&ipamv1.ClusterNetwork{ServiceNetworks: []string{"x"}}), "InvalidArgument INVALID_FIELD "+
		`cluster_network.networks: at least one is required; cluster_network.service_networks[0]: "x" is not a range such as 10.128.0.0/14`)
	empty, err := s.networks.ListClusterNetworks(soon(t), &ipamv1.ListClusterNetworksRequest{})
	if err != nil || len(empty.GetClusterNetworks()) != 0 {
		t.Errorf("before: got %v, %v", empty, err)
	}

	stored := s.create(t, usual())
	if again := s.create(t, stored); !proto.Equal(again, stored) { // with the defaults filled in
		t.Errorf("again: got %v, want %v", again, stored)
	}
	other := usual()
	other.Mtu = 1400
	mustFail(t, create(other), "AlreadyExists ALREADY_EXISTS there is another cluster network already; update it instead")
	mustFail(t, update(other), fmt.Sprintf("Aborted STALE_REVISION the cluster network is at revision %d, not 0: read it again", stored.GetRevision()))
	s.allocate(t, "n1", "192.0.2.1")
	other.Revision, other.Tunnel = stored.GetRevision(), &ipamv1.Tunnel{Type: ipamv1.TunnelType_TUNNEL_TYPE_GENEVE}
	mustFail(t, update(other), "FailedPrecondition IN_USE the tunnel cannot change while 1 node has a subnet")
	other.Tunnel = nil
	if err := update(other); err != nil {
		t.Fatal(err)
	}
	got, err := s.networks.GetClusterNetwork(soon(t), &ipamv1.GetClusterNetworkRequest{})
	if err != nil || got.GetClusterNetwork().GetMtu() != 1400 {
		t.Errorf("got %v, %v", got, err)
	}
	list, err := s.networks.ListClusterNetworks(soon(t), &ipamv1.ListClusterNetworksRequest{})
	if err != nil || len(list.GetClusterNetworks()) != 1 || list.GetSequence() < got.GetClusterNetwork().GetRevision() {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestHostSubnetsAreListedByNameInPages(t *testing.T) {
	s := start(t)
	s.create(t, usual())
	for i, name := range []string{"b", "a0", "a.b", "a-b", "c"} {
		s.allocate(t, name, fmt.Sprintf("192.0.2.%d", i+1))
	}
	var names []string
	pages, token := 0, ""
	for {
		answer, err := s.hostSubnets.ListHostSubnets(soon(t), &ipamv1.ListHostSubnetsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, h := range answer.GetHostSubnets() {
			names = append(names, h.GetName())
			if answer.GetSequence() < h.GetRevision() {
				t.Errorf("sequence %d does not reflect revision %d", answer.GetSequence(), h.GetRevision())
			}
		}
		if token = answer.GetNextPageToken(); token == "" {
			break
		}
		if pages == 1 { // the page's last object goes, and none is skipped or repeated
			if _, err := s.hostSubnets.ReleaseHostSubnet(soon(t), &ipamv1.ReleaseHostSubnetRequest{Node: "a.b"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []string{"a-b", "a.b", "a0", "b", "c"}; !slices.Equal(names, want) || pages != 3 {
		t.Errorf("got %v in %d pages, want %v in 3", names, pages, want)
	}
	_, err := s.hostSubnets.ListHostSubnets(soon(t), &ipamv1.ListHostSubnetsRequest{PageSize: 5001, PageToken: "!"})
	mustFail(t, err, `InvalidArgument INVALID_FIELD page_size: 5001 is not within 1 to 5000; page_token: "!" is not from an answer`)
}

func TestWithoutTheStoreReadsAnswerAndChangesSaySo(t *testing.T) {
	s := start(t)
	s.create(t, usual())
	s.allocate(t, "n1", "192.0.2.1")
	s.nats.Stop()
	if _, err := s.hostSubnets.GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "n1"}); err != nil {
		t.Error(err)
	}
	_, err := s.hostSubnets.AllocateHostSubnet(soon(t), &ipamv1.AllocateHostSubnetRequest{Node: "n2", NodeUid: "u", HostIps: []string{"192.0.2.2"}})
	mustFail(t, err, "Unavailable STORE_UNAVAILABLE the store does not answer; try again")
	_, err = s.hostSubnets.GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "n2"})
	mustFail(t, err, "Unavailable STORE_UNAVAILABLE the store does not answer; try again") // it cannot know that there is none
	s.nats.Start()
	if got := s.allocate(t, "n2", "192.0.2.2").GetSubnets(); got[0] != "10.129.0.0/23" {
		t.Errorf("after: got %v", got)
	}
}
