package servicelb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// read answers the store's content through a view of its own.
func (s *system) read() bucket.Snapshot {
	s.t.Helper()
	return s.open().Snapshot()
}

// write changes the store behind the service's back.
func (s *system) write(do func(tx *bucket.Tx)) {
	s.t.Helper()
	if _, err := s.open().Update(soon(s.t), func(tx *bucket.Tx) error { do(tx); return nil }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) open() *bucket.Bucket {
	t := s.t
	t.Helper()
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(t, identitytest.Service(t, serviceName)), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bucket.Open(soon(t), js, nc, bucket.Config{Name: natsd.BucketName(serviceName), Subject: bus.Prefix(serviceName)}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	if err := b.Refresh(soon(t)); err != nil {
		t.Fatal(err)
	}
	return b
}

// audit checks a store with no help of the service's own code: what services
// have is claimed for exactly them, and nothing else is claimed. It answers the
// names of the services that are there, in order.
func audit(t *testing.T, store bucket.Snapshot) []string {
	t.Helper()
	owners := map[string]string{}
	var names []string
	for s, err := range bucket.NewTable[*servicelbv1.Service]("service").Scan(store) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, s.GetName())
		var keys []string
		for _, ip := range s.GetClusterIps() {
			keys = append(keys, bucket.Key("clusterip", ip))
		}
		for _, ip := range s.GetLoadBalancerIps() {
			keys = append(keys, bucket.Key("loadbalancerip", ip))
		}
		numbers := map[uint32]bool{s.GetHealthCheckNodePort(): true}
		for _, p := range s.GetPorts() {
			numbers[p.GetNodePort()] = true
		}
		delete(numbers, 0)
		for n := range numbers {
			keys = append(keys, bucket.Key("nodeport", fmt.Sprint(n)))
		}
		for _, key := range keys {
			if other, twice := owners[key]; twice {
				t.Errorf("%s belongs to %s and to %s", key, other, s.GetName())
			}
			owners[key] = s.GetNamespace() + "/" + s.GetName()
		}
	}
	claims := 0
	for _, kind := range []string{"clusterip.", "nodeport.", "loadbalancerip."} {
		for _, entry := range store.List(kind) {
			claims++
			if owners[entry.Key] != string(entry.Value) {
				t.Errorf("%s is claimed for %s, and had by %q", entry.Key, entry.Value, owners[entry.Key])
			}
		}
	}
	if claims != len(owners) {
		t.Errorf("%d things are claimed, %d are had", claims, len(owners))
	}
	return names
}

// TestTwoReplicasNeverGiveOneThingTwice lets eight clients create, change and
// delete services through two replicas at once, with far too little for all.
func TestTwoReplicasNeverGiveOneThingTwice(t *testing.T) {
	sys := newSystem(t)
	addresses := []string{sys.startReplica(small(), prometheus.NewRegistry()), sys.startReplica(small(), prometheus.NewRegistry())}
	var working sync.WaitGroup
	var mu sync.Mutex
	counts := map[codes.Code]int{}
	for i := range 8 {
		c := sys.as(identity.Operator("ann"), addresses[i%2])
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 60 {
				code := status.Code(step(t, c, random))
				mu.Lock()
				counts[code]++
				mu.Unlock()
			}
		})
	}
	working.Wait()
	t.Logf("answers: %v", counts)
	for _, code := range []codes.Code{codes.OK, codes.ResourceExhausted, codes.FailedPrecondition} {
		if counts[code] == 0 {
			t.Errorf("no request was answered with %v, the test proves little", code)
		}
		delete(counts, code)
	}
	for _, code := range []codes.Code{codes.NotFound, codes.AlreadyExists, codes.InvalidArgument} {
		delete(counts, code)
	}
	if len(counts) > 0 {
		t.Errorf("other answers: %v", counts)
	}
	audit(t, sys.read())
}

// step makes one random request.
func step(t *testing.T, c client, random *rand.Rand) error {
	s := web(fmt.Sprintf("w%d", random.IntN(20)))
	switch random.IntN(4) {
	case 0:
		_, err := c.DeleteService(soon(t), &servicelbv1.DeleteServiceRequest{Namespace: "shop", Name: s.Name})
		return err
	case 1:
		s.Ports[0].NodePort = 30000 + random.Uint32N(10)
		nodePort(s)
	case 2:
		balanced(s)
		s.ExternalTrafficPolicy = local
		if random.IntN(2) == 0 {
			s.LoadBalancerIps = []string{fmt.Sprintf("192.0.2.%d", 1+random.IntN(3))}
		}
	}
	if random.IntN(2) == 0 {
		_, err := c.UpdateService(soon(t), &servicelbv1.UpdateServiceRequest{Service: s})
		return err
	}
	_, err := c.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: s})
	return err
}

// TestTheLastOneIsFound takes everything through one replica: none is left
// over, although each is looked for from a random place.
func TestTheLastOneIsFound(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	var ports []uint32
	for i := range 10 {
		ports = append(ports, op.create(t, web(fmt.Sprintf("w%d", i), nodePort)).GetPorts()[0].GetNodePort())
	}
	if slices.Sort(ports); ports[0] != 30000 || ports[9] != 30009 || len(slices.Compact(ports)) != 10 {
		t.Errorf("node ports %v", ports)
	}
	if got := audit(t, sys.read()); len(got) != 10 {
		t.Errorf("services %v", got)
	}
}

// TestThoseWhoComeAtOnceGetWhatIsThere lets as many clients as there are node
// ports come at once: their transactions share commits, and see one another.
func TestThoseWhoComeAtOnceGetWhatIsThere(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	all := op.create(t, web("all", nodePort, func(s *servicelbv1.Service) {
		s.Ports = nil
		for i := range 10 {
			s.Ports = append(s.Ports, &servicelbv1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: uint32(80 + i)})
		}
	}))
	numbers := map[uint32]bool{}
	for _, p := range all.GetPorts() {
		numbers[p.GetNodePort()] = true
	}
	if len(numbers) != 10 {
		t.Errorf("ten ports have the node ports %v", numbers)
	}
	op.remove(t, "all")
	for range 10 {
		var coming sync.WaitGroup
		for i := range 10 {
			coming.Go(func() {
				if _, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web(fmt.Sprintf("w%d", i), nodePort)}); err != nil {
					t.Error(err)
				}
			})
		}
		coming.Wait()
		if got := audit(t, sys.read()); len(got) != 10 {
			t.Fatalf("services %v", got)
		}
		for i := range 10 {
			op.remove(t, fmt.Sprintf("w%d", i))
		}
	}
}
