package tenancy

import (
	"context"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// ipam serves the HostSubnets of a real bucket, which changes on the real bus;
// it gives out no subnets.
type ipam struct {
	ipamv1.UnimplementedHostSubnetServiceServer

	t       *testing.T
	bucket  *bucket.Bucket
	address string
	stop    func()
}

func subnets() bucket.Table[*ipamv1.HostSubnet] {
	return bucket.NewTable[*ipamv1.HostSubnet]("hostsubnet")
}

func (i *ipam) GetHostSubnet(ctx context.Context, r *ipamv1.GetHostSubnetRequest) (*ipamv1.GetHostSubnetResponse, error) {
	if err := i.bucket.Refresh(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	found, exists, err := subnets().Get(i.bucket, r.GetNode())
	if err != nil || !exists {
		return nil, status.Errorf(codes.NotFound, "there is none: %v", err)
	}
	return &ipamv1.GetHostSubnetResponse{HostSubnet: found}, nil
}

// ListHostSubnets answers one on each page.
func (i *ipam) ListHostSubnets(_ context.Context, r *ipamv1.ListHostSubnetsRequest) (*ipamv1.ListHostSubnetsResponse, error) {
	snapshot := i.bucket.Snapshot()
	answer := &ipamv1.ListHostSubnetsResponse{Sequence: snapshot.Sequence()}
	for found, err := range subnets().Scan(snapshot, r.GetPageToken()) {
		if err != nil {
			return nil, err
		}
		if len(answer.GetHostSubnets()) == 1 {
			answer.NextPageToken = answer.GetHostSubnets()[0].GetName()
			break
		}
		answer.HostSubnets = append(answer.HostSubnets, found)
	}
	return answer, nil
}

// startIPAM opens ipam's bucket, and serves it.
func (s *system) startIPAM() *ipam {
	s.t.Helper()
	source, log := s.ca.Source(s.t, identitytest.Service(s.t, "ipam")), hclog.NewNullLogger()
	nc, err := natsd.Connect([]string{s.store.URL()}, source, log)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	i := &ipam{t: s.t}
	i.bucket, err = bucket.Open(soon(s.t), js, nc, bucket.Config{Name: natsd.BucketName("ipam"), Subject: bus.Prefix("ipam")}, log)
	if err != nil {
		s.t.Fatal(err)
	}
	i.run(i.bucket.Run)
	i.serve(s, "127.0.0.1:0")
	conn, err := rpcdial.New(rpcdial.Config{
		Addresses: []string{i.address}, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM},
	}, s.ca.Source(s.t, identitytest.Service(s.t, "tenancy")))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	s.ipam = conn
	return i
}

func (i *ipam) serve(s *system, listen string) {
	i.t.Helper()
	srv, err := rpcserve.New(rpcserve.Config{Listen: listen}, s.ca.Source(i.t, identitytest.Service(i.t, "ipam")), hclog.NewNullLogger(), prometheus.NewRegistry())
	if err != nil {
		i.t.Fatal(err)
	}
	srv.Register(func(on grpc.ServiceRegistrar) { ipamv1.RegisterHostSubnetServiceServer(on, i) })
	srv.SetReady(true)
	i.address = srv.Addr().String()
	i.stop = i.run(srv.Run)
}

// run runs a part until stop is called, or the test ends.
func (i *ipam) run(part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			i.t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	i.t.Cleanup(stop)
	return stop
}

func (i *ipam) update(do func(tx *bucket.Tx)) {
	i.t.Helper()
	_, err := i.bucket.Update(soon(i.t), func(tx *bucket.Tx) error {
		do(tx)
		return nil
	})
	if err != nil {
		i.t.Fatal(err)
	}
}

func (i *ipam) register(node string) {
	i.t.Helper()
	i.update(func(tx *bucket.Tx) { subnets().Put(tx, &ipamv1.HostSubnet{Name: node, NodeUid: "uid"}, node) })
}

func (i *ipam) release(node string) {
	i.t.Helper()
	i.update(func(tx *bucket.Tx) { subnets().Delete(tx, node) })
}

func (s *system) report(node string, pods ...*tenancyv1.Pod) {
	s.t.Helper()
	if _, err := s.node(node).SyncNodePods(soon(s.t), &tenancyv1.SyncNodePodsRequest{Node: node, Pods: pods}); err != nil {
		s.t.Fatal(err)
	}
}

// awaitGone waits on the change bus until a pod's record is deleted.
func (s *system) awaitGone(namespace, name string, when func()) {
	s.t.Helper()
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(s.t, identitytest.Service(s.t, "servicelb")), hclog.NewNullLogger())
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(bus.Prefix("tenancy") + ".pod." + namespace + "." + name)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := nc.FlushWithContext(soon(s.t)); err != nil {
		s.t.Fatal(err)
	}
	when()
	for {
		msg, err := sub.NextMsgWithContext(soon(s.t))
		if err != nil {
			s.t.Fatalf("pod %s/%s stays: %v", namespace, name, err)
		}
		if msg.Header.Get(bus.HeaderOperation) != "" {
			return
		}
	}
}

func (s *system) pods() int {
	s.t.Helper()
	page, err := s.operator().ListPods(soon(s.t), &tenancyv1.ListPodsRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return len(page.GetPods())
}

// departing is a system with ipam, two nodes with pods, and two replicas.
func departing(t *testing.T) (*system, *ipam) {
	sys := newSystem(t)
	i := sys.startIPAM()
	i.register("n1")
	i.register("n2")
	sys.address = sys.startReplica(vnid.Default(), sys.metrics)
	sys.startReplica(vnid.Default(), prometheus.NewRegistry())
	sys.operator().create(t, "shop", 42)
	sys.report("n1", pod("n1", "shop", "a", "s1"), pod("n1", "shop", "b", "s2"))
	sys.report("n2", pod("n2", "other", "c", "s3"))
	return sys, i
}

func TestPodsOfAReleasedNodeNoLongerKeepTheirNamespace(t *testing.T) {
	sys, i := departing(t)
	op := sys.operator()
	if _, err := op.DeleteNetNamespace(soon(t), &tenancyv1.DeleteNetNamespaceRequest{Name: "shop"}); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("with pods: %v", err)
	}
	sys.awaitGone("shop", "b", func() { i.release("n1") })
	if _, err := op.DeleteNetNamespace(soon(t), &tenancyv1.DeleteNetNamespaceRequest{Name: "shop"}); err != nil {
		t.Error(err)
	}
	if got := sys.pods(); got != 1 {
		t.Errorf("%d pods are left, want n2's", got)
	}

	t.Run("and the node may come back", func(t *testing.T) {
		i.register("n1")
		sys.report("n1", pod("n1", "shop", "a", "s1"))
		if got := sys.pods(); got != 2 {
			t.Errorf("%d pods, want 2", got)
		}
	})
	t.Run("a second release is seen too", func(t *testing.T) {
		sys.awaitGone("shop", "a", func() { i.release("n1") })
	})
}

func TestNothingIsDroppedWhileIPAMDoesNotAnswer(t *testing.T) {
	sys, i := departing(t)
	i.stop()
	i.release("n1") // the bus tells of it, but nobody confirms
	third := prometheus.NewRegistry()
	sys.startReplica(vnid.Default(), third) // nor can a new replica learn it
	if got := sys.pods(); got != 3 {
		t.Fatalf("%d pods, want all", got)
	}
	sys.awaitGone("shop", "b", func() { i.serve(sys, i.address) })
	if got := sys.pods(); got != 1 {
		t.Errorf("%d pods are left, want n2's", got)
	}
}

func TestANodeThatWasReleasedBeforeTheReplicaStartedIsSeen(t *testing.T) {
	sys := newSystem(t)
	i := sys.startIPAM()
	i.register("n1")
	ipamConn := sys.ipam
	sys.ipam = nil
	sys.address = sys.startReplica(vnid.Default(), sys.metrics) // knows no ipam: drops nothing
	sys.report("n1", pod("n1", "shop", "a", "s1"))
	sys.report("n2", pod("n2", "shop", "b", "s2")) // never registered
	i.release("n1")
	if got := sys.pods(); got != 2 {
		t.Fatalf("%d pods, want 2: this replica is told of no ipam", got)
	}
	sys.ipam = ipamConn
	sys.awaitGone("shop", "a", func() {
		sys.awaitGone("shop", "b", func() { sys.startReplica(vnid.Default(), prometheus.NewRegistry()) })
	})
	if got := sys.pods(); got != 0 {
		t.Errorf("%d pods are left", got)
	}
}
