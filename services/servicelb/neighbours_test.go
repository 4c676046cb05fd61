package servicelb

import (
	"context"
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
	t      *testing.T
	bucket *bucket.Bucket
	conn   grpc.ClientConnInterface
}

// startNeighbour opens a service's bucket, and serves it.
func (s *system) startNeighbour(name string, role accessv1.Role, register func(grpc.ServiceRegistrar, *neighbour)) *neighbour {
	t := s.t
	t.Helper()
	source, log := s.ca.Source(t, identitytest.Service(t, name)), hclog.NewNullLogger()
	nc, err := natsd.Connect([]string{s.store.URL()}, source, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	n := &neighbour{t: t}
	if n.bucket, err = bucket.Open(soon(t), js, nc, bucket.Config{Name: natsd.BucketName(name), Subject: bus.Prefix(name)}, log); err != nil {
		t.Fatal(err)
	}
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, source, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	srv.Register(func(on grpc.ServiceRegistrar) { register(on, n) })
	srv.SetReady(true)
	n.run(n.bucket.Run)
	n.run(srv.Run)
	conn, err := rpcdial.New(rpcdial.Config{Addresses: []string{srv.Addr().String()}, Roles: []accessv1.Role{role}},
		s.ca.Source(t, identitytest.Service(t, serviceName)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.conn = conn
	return n
}

// run runs a part until the test ends.
func (n *neighbour) run(part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			n.t.Error(err)
		}
	}()
	n.t.Cleanup(func() {
		cancel()
		<-done
	})
}

func (n *neighbour) update(do func(tx *bucket.Tx)) {
	n.t.Helper()
	if _, err := n.bucket.Update(soon(n.t), func(tx *bucket.Tx) error { do(tx); return nil }); err != nil {
		n.t.Fatal(err)
	}
}

// ipam serves address plans.
type ipam struct {
	ipamv1.UnimplementedClusterNetworkServiceServer
	*neighbour
}

func plans() bucket.Table[*ipamv1.ClusterNetwork] {
	return bucket.NewTable[*ipamv1.ClusterNetwork]("clusternetwork")
}

func (i *ipam) ListClusterNetworks(context.Context, *ipamv1.ListClusterNetworksRequest) (*ipamv1.ListClusterNetworksResponse, error) {
	snapshot := i.bucket.Snapshot()
	list, err := plans().List(snapshot)
	return &ipamv1.ListClusterNetworksResponse{ClusterNetworks: list, Sequence: snapshot.Sequence()}, err
}

// startIPAM starts an ipam without a plan.
func (s *system) startIPAM() *ipam {
	i := &ipam{}
	i.neighbour = s.startNeighbour("ipam", accessv1.Role_ROLE_IPAM, func(on grpc.ServiceRegistrar, n *neighbour) {
		i.neighbour = n
		ipamv1.RegisterClusterNetworkServiceServer(on, i)
	})
	s.ipam = i.conn
	return i
}

func (i *ipam) plan(services ...string) {
	i.t.Helper()
	i.update(func(tx *bucket.Tx) {
		plans().Put(tx, &ipamv1.ClusterNetwork{Name: "default", ServiceNetworks: services}, "default")
	})
}

// tenancy serves pods.
type tenancy struct {
	tenancyv1.UnimplementedPodRegistryServiceServer
	*neighbour
}

func podTable() bucket.Table[*tenancyv1.Pod] { return bucket.NewTable[*tenancyv1.Pod]("pod") }

// ListPods answers two on each page.
func (y *tenancy) ListPods(_ context.Context, r *tenancyv1.ListPodsRequest) (*tenancyv1.ListPodsResponse, error) {
	snapshot := y.bucket.Snapshot()
	answer := &tenancyv1.ListPodsResponse{Sequence: snapshot.Sequence()}
	for entry := range snapshot.Scan("pod.", r.GetPageToken()) {
		if len(answer.GetPods()) == 2 {
			last := answer.GetPods()[1]
			answer.NextPageToken = podTable().Key(last.GetNamespace(), last.GetName())
			break
		}
		for pod, err := range podTable().Scan(snapshot) {
			if err != nil {
				return nil, err
			}
			if podTable().Key(pod.GetNamespace(), pod.GetName()) == entry.Key {
				answer.Pods = append(answer.Pods, pod)
			}
		}
	}
	return answer, nil
}

// startTenancy starts a registry without pods.
func (s *system) startTenancy() *tenancy {
	y := &tenancy{}
	y.neighbour = s.startNeighbour("tenancy", accessv1.Role_ROLE_TENANCY, func(on grpc.ServiceRegistrar, n *neighbour) {
		y.neighbour = n
		tenancyv1.RegisterPodRegistryServiceServer(on, y)
	})
	s.tenancy = y.conn
	return y
}

// register puts a pod of the namespace shop into the registry.
func (y *tenancy) register(name, ip string, labels map[string]string) {
	y.t.Helper()
	y.put(&tenancyv1.Pod{Name: name, Ips: []string{ip}, Labels: labels})
}

// put is register for all that a pod may have.
func (y *tenancy) put(pod *tenancyv1.Pod) {
	y.t.Helper()
	pod.Namespace, pod.Node, pod.SandboxId = "shop", "n1", "s"
	y.update(func(tx *bucket.Tx) { podTable().Put(tx, pod, "shop", pod.GetName()) })
}

func (y *tenancy) unregister(name string) {
	y.t.Helper()
	y.update(func(tx *bucket.Tx) { podTable().Delete(tx, "shop", name) })
}
