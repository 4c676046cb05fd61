package allocation_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

// nodeNumber is a registration of the n-th of many nodes.
func nodeNumber(n int) allocation.Registration {
	return allocation.Registration{
		Node: fmt.Sprintf("node-%d.example.org", n), UID: fmt.Sprintf("uid-%d", n),
		HostIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)})},
	}
}

// TestFourReplicasGiveOutAWholeRangeWhileOneIsCutOff fills a /14 by /23 from
// four replicas at once. Half-way one of them loses its connection for good;
// its callers go on at another replica, not knowing what became of the call.
func TestFourReplicasGiveOutAWholeRangeWhileOneIsCutOff(t *testing.T) {
	const nodes, half, lanes = 512, 256, 8
	server := natsdtest.New(t)
	stores := make([]*allocation.Store, 4)
	var view *bucket.Bucket
	for i := range stores[:3] {
		stores[i], view = replica(t, server, "ipam", nil)
	}
	weak, cut := cuttable(t, server)
	stores[3] = weak
	created(t, stores[0], one(t, "10.128.0.0/14", 9))

	var given atomic.Int32
	var next atomic.Int32
	var failedOver atomic.Int32
	var work sync.WaitGroup
	for lane := range lanes {
		work.Go(func() {
			for n := int(next.Add(1)); n <= nodes; n = int(next.Add(1)) {
				err := register(stores[lane%4], n)
				if err != nil && lane%4 == 3 {
					failedOver.Add(1)
					err = register(stores[0], n)
				}
				if err != nil {
					t.Errorf("node %d: %v", n, err)
				}
				if given.Add(1) == half {
					cut()
				}
			}
		})
	}
	work.Wait()
	if failedOver.Load() == 0 {
		t.Error("the replica that was cut off went on answering")
	}
	if err := view.Refresh(soon()); err != nil {
		t.Fatal(err)
	}
	list, _, err := stores[2].HostSubnets(soon())
	if err != nil || len(list) != nodes {
		t.Fatalf("%d host subnets, %v", len(list), err)
	}
	if err := audit(view.List("")); err != nil {
		t.Error(err)
	}
	_, err = stores[1].Register(soon(), nodeNumber(nodes+1), now)
	if kindOf(err) != allocation.Exhausted {
		t.Errorf("one more: got %v", err)
	}
	stats := view.Stats()
	t.Logf("one replica: %d commits, %d conflicts", stats.Commits, stats.Conflicts)
}

// register has more patience than the whole test takes on a busy machine: who meets the
// others' changes again and again may be the last.
func register(s *allocation.Store, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := s.Register(ctx, nodeNumber(n), now)
	return err
}

// cuttable opens a replica that cut separates from the server for ever.
func cuttable(t *testing.T, server *natsdtest.Server) (s *allocation.Store, cut func()) {
	t.Helper()
	nc := server.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bucket.Open(soon(), js, nc, bucket.Config{Name: "ipam", Subject: "test.ipam"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return allocation.New(b, nil), nc.Close
}

// TestReplicasThatAreAskedForTheSameThingAtOnceGiveItOnce lets two replicas be asked for
// one node, one wish and one host IP at the same moment, many times.
func TestReplicasThatAreAskedForTheSameThingAtOnceGiveItOnce(t *testing.T) {
	server := natsdtest.New(t)
	a, view := replica(t, server, "ipam", nil)
	b, _ := replica(t, server, "ipam", nil)
	created(t, a, one(t, "10.128.0.0/14", 9))
	for round := range 30 {
		wish := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 130, byte(2 * round), 0}), 23)}
		ip := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(round)})}
		for name, pair := range map[string][2]allocation.Registration{
			"one node":    {nodeNumber(round), nodeNumber(round)},
			"one wish":    {withWish(nodeNumber(1000+2*round), wish), withWish(nodeNumber(1001+2*round), wish)},
			"one host IP": {withIPs(nodeNumber(2000+2*round), ip), withIPs(nodeNumber(2001+2*round), ip)},
		} {
			errs := both(a, b, pair)
			refusals := 0
			for _, err := range errs {
				if kindOf(err) == allocation.Overlap {
					refusals++
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if want := map[bool]int{true: 0, false: 1}[name == "one node"]; refusals != want {
				t.Errorf("%s: %d refusals, want %d", name, refusals, want)
			}
		}
	}
	if err := errors.Join(view.Refresh(soon()), audit(view.List(""))); err != nil {
		t.Error(err)
	}
}

func withWish(r allocation.Registration, wish []netip.Prefix) allocation.Registration {
	r.Wish = wish
	return r
}

func withIPs(r allocation.Registration, ips []netip.Addr) allocation.Registration {
	r.HostIPs = ips
	return r
}

func both(a, b *allocation.Store, pair [2]allocation.Registration) [2]error {
	var errs [2]error
	var wait sync.WaitGroup
	for i, s := range []*allocation.Store{a, b} {
		wait.Go(func() { _, errs[i] = s.Register(soon(), pair[i], now) })
	}
	wait.Wait()
	return errs
}

// TestAPlanDoesNotChangeUnderARegistration lets a range go on one replica
// while another one gives out a subnet of it: exactly one of them may.
func TestAPlanDoesNotChangeUnderARegistration(t *testing.T) {
	server := natsdtest.New(t)
	a, view := replica(t, server, "ipam", nil)
	b, _ := replica(t, server, "ipam", nil)
	small, other := one(t, "10.128.0.0/14", 9), one(t, "10.200.0.0/16", 8)
	current := created(t, a, small)
	for round := range 20 {
		var wait sync.WaitGroup
		var registerErr, replaceErr error
		wish := withWish(nodeNumber(round), []netip.Prefix{netip.MustParsePrefix("10.130.0.0/23")})
		wait.Go(func() { _, registerErr = a.Register(soon(), wish, now) })
		wait.Go(func() { _, replaceErr = b.Replace(soon(), other, current.GetRevision()) })
		wait.Wait()
		switch {
		case registerErr == nil && kindOf(replaceErr) == allocation.InUse:
			released(t, a, nodeNumber(round).Node)
		case replaceErr == nil && kindOf(registerErr) == allocation.Overlap:
			stored, _, _, err := b.ClusterNetwork(soon())
			if err != nil {
				t.Fatal(err)
			}
			if current, err = b.Replace(soon(), small, stored.GetRevision()); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("round %d: register: %v; replace: %v", round, registerErr, replaceErr)
		}
		if err := errors.Join(view.Refresh(soon()), audit(view.List(""))); err != nil {
			t.Fatal(err)
		}
	}
}
