package killtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/replicatest"
	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

const (
	// subnets is what 10.128.0.0/14 has by /23.
	subnets = 512
	// killEvery is after how many answers the next replica is killed.
	killEvery = 12
	lanes     = 8
)

// TestFourReplicasGiveOutAWholeRangeUnderKill9 fills a /14, gives half of it
// back, and fills it again with other machines, while one replica after
// another is killed and started again.
func TestFourReplicasGiveOutAWholeRangeUnderKill9(t *testing.T) {
	ca := identitytest.New(t)
	nats := startNATS(t, ca)
	binary := build(t)
	replicas := make([]*replica, 4)
	for i := range replicas {
		replicas[i] = newReplica(t, ca, binary, i+1, fmt.Sprintf("{servers: [%q]}", nats.URL()))
		replicas[i].start(t)
	}
	client := dial(t, ca, replicas...)
	if err := client.createPlan("10.128.0.0/14", 9); err != nil {
		t.Fatal(err)
	}
	kills := 0
	kill := func() {
		victim := replicas[kills%len(replicas)]
		victim.process.Kill()
		victim.start(t)
		kills++
	}
	answers := &answers{byNode: map[int]string{}}
	first := everyNumber(subnets)
	work(t, first, kill, func(n int) error { return answers.allocate(client, n, "first") })
	work(t, first[:subnets/2], kill, func(n int) error { return client.release(n) })
	work(t, first[:subnets/2], kill, func(n int) error { return answers.allocate(client, n, "second") })

	list := listAll(t, client)
	owners := map[string]string{}
	for _, h := range list {
		if other := owners[h.GetSubnets()[0]]; other != "" {
			t.Errorf("%s belongs to %s and %s", h.GetSubnets()[0], other, h.GetName())
		}
		owners[h.GetSubnets()[0]] = h.GetName()
	}
	for n, subnet := range answers.byNode {
		if owners[subnet] != node(n) {
			t.Errorf("%s was answered %s, which belongs to %q", node(n), subnet, owners[subnet])
		}
	}
	if len(list) != subnets {
		t.Errorf("%d nodes have a subnet, want %d", len(list), subnets)
	}
	if _, err := client.allocate(subnets+1, "first"); status.Code(err) != codes.ResourceExhausted || rpcerr.Reason(err) != "EXHAUSTED" {
		t.Errorf("one more: got %v", err)
	}
	nothingIsLeftOver(t, ca, nats)
	t.Logf("%d allocations and releases under %d kills", 2*subnets, kills)
	if kills < 2*subnets/killEvery-3 {
		t.Errorf("only %d kills", kills)
	}
}

func everyNumber(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// answers is what the service said.
type answers struct {
	mu     sync.Mutex
	byNode map[int]string
}

func (a *answers) allocate(client operator, n int, uid string) error {
	subnet, err := client.allocate(n, uid)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byNode[n] = subnet
	return nil
}

// work does the same for every number in some lanes, and kills after every
// killEvery answers.
func work(t *testing.T, numbers []int, kill func(), do func(n int) error) {
	t.Helper()
	todo, done := make(chan int, len(numbers)), make(chan error, len(numbers))
	for _, n := range numbers {
		todo <- n
	}
	close(todo)
	for range lanes {
		go func() {
			for n := range todo {
				done <- do(n)
			}
		}()
	}
	for i := range numbers {
		if err := <-done; err != nil {
			t.Error(err)
		}
		if i%killEvery == killEvery-1 {
			kill()
		}
	}
}

// listAll reads every page.
func listAll(t *testing.T, client operator) []*ipamv1.HostSubnet {
	t.Helper()
	var list []*ipamv1.HostSubnet
	for token := ""; ; {
		var answer *ipamv1.ListHostSubnetsResponse
		err := replicatest.Again(func(ctx context.Context) (err error) {
			answer, err = client.hostSubnets.ListHostSubnets(ctx, &ipamv1.ListHostSubnetsRequest{PageSize: 100, PageToken: token})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, answer.GetHostSubnets()...)
		if token = answer.GetNextPageToken(); token == "" {
			return list
		}
	}
}

// nothingIsLeftOver reads the raw store: as many owned claims as subnets, as
// many host IPs as nodes.
func nothingIsLeftOver(t *testing.T, ca *identitytest.CA, nats *natsd.Server) {
	t.Helper()
	nc, err := natsd.Connect([]string{nats.URL()}, ca.Source(t, identitytest.Service(t, "ipam")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := bucket.Open(ctx, js, nc, bucket.Config{Name: natsd.BucketName("ipam"), Subject: bus.Prefix("ipam")}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) }) // ends with ctx
	defer running.Wait()
	defer cancel()
	if err := b.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for e := range b.Scan("", "") {
		kind, _, _ := strings.Cut(e.Key, ".")
		if kind != "claim" || len(e.Value) > 0 {
			counts[kind]++
		}
	}
	for _, kind := range []string{"hostsubnet", "claim", "hostip"} {
		if counts[kind] != subnets {
			t.Errorf("%d keys of kind %s, want %d", counts[kind], kind, subnets)
		}
	}
}

// TestWhatWasAnsweredSurvivesKill9OfTheServiceWithItsStore kills a service
// with an embedded store in the middle of its work, some rounds.
func TestWhatWasAnsweredSurvivesKill9OfTheServiceWithItsStore(t *testing.T) {
	const nodes = 96
	ca := identitytest.New(t)
	r := newReplica(t, ca, build(t), 9, fmt.Sprintf("{embedded: {storeDir: %q, listen: %q}}", t.TempDir(), address(9, 4222)))
	r.start(t)
	client := dial(t, ca, r)
	if err := client.createPlan("10.1.0.0/16", 9); err != nil {
		t.Fatal(err)
	}
	answers := &answers{byNode: map[int]string{}}
	kills := 0
	work(t, everyNumber(nodes), func() {
		r.process.Kill()
		r.start(t)
		kills++
	}, func(n int) error { return answers.allocate(client, n, "first") })
	list := listAll(t, client)
	if len(list) != nodes {
		t.Errorf("%d nodes have a subnet, want %d", len(list), nodes)
	}
	owners := map[string]string{}
	for _, h := range list {
		owners[h.GetSubnets()[0]] = h.GetName()
	}
	for n, subnet := range answers.byNode {
		if owners[subnet] != node(n) {
			t.Errorf("%s was answered %s, which belongs to %q", node(n), subnet, owners[subnet])
		}
	}
	t.Logf("%d allocations under %d kills", nodes, kills)
}
