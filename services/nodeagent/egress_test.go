package nodeagent

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/egressmark"
	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egresshost"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// egressStore is egress as far as an agent reads it: a bucket and its bus, and the lists
// from it. It stands in for the connection.
type egressStore struct {
	grpc.ClientConnInterface // nothing else is called
	*bucket.Bucket

	t           *testing.T
	mu          sync.Mutex
	away        bool
	assignments bucket.Table[*egressv1.EgressAssignment]
	pods        bucket.Table[*egressv1.EgressPods]
	hostings    bucket.Table[*egressv1.EgressHosting]
}

func newEgressStore(t *testing.T, server *natsdtest.Server) *egressStore {
	t.Helper()
	js, nc := server.JetStream()
	b, err := bucket.Open(t.Context(), js, nc, bucket.Config{Name: "damask_egress", Subject: "damask.egress.v1"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	during(t, b.Run)
	if err := b.Ready(shortly(t)); err != nil {
		t.Fatal(err)
	}
	return &egressStore{
		Bucket: b, t: t, assignments: bucket.NewTable[*egressv1.EgressAssignment]("egressassignment"),
		pods: bucket.NewTable[*egressv1.EgressPods]("egresspods"), hostings: bucket.NewTable[*egressv1.EgressHosting]("egresshosting"),
	}
}

// during runs something until it is stopped, or the test ends.
func during(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func shortly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *egressStore) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// Invoke answers lists.
func (s *egressStore) Invoke(_ context.Context, _ string, args, reply any, _ ...grpc.CallOption) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return status.Error(codes.Unavailable, "away")
	}
	snapshot := s.Snapshot()
	switch r := args.(type) {
	case *egressv1.ListEgressAssignmentsRequest:
		to := reply.(*egressv1.ListEgressAssignmentsResponse)
		to.Sequence = snapshot.Sequence()
		all, err := s.assignments.List(snapshot)
		for _, a := range all {
			if slices.Contains(r.GetNamespaces(), a.GetNamespace()) {
				to.EgressAssignments = append(to.EgressAssignments, a)
			}
		}
		return err
	case *egressv1.ListEgressPodsRequest:
		to := reply.(*egressv1.ListEgressPodsResponse)
		to.Sequence = snapshot.Sequence()
		all, err := s.pods.List(snapshot)
		for _, p := range all {
			if slices.Contains(r.GetNamespaces(), p.GetNamespace()) {
				to.EgressPods = append(to.EgressPods, p)
			}
		}
		return err
	case *egressv1.ListEgressHostingsRequest:
		to := reply.(*egressv1.ListEgressHostingsResponse)
		to.Sequence = snapshot.Sequence()
		all, err := s.hostings.List(snapshot)
		for _, h := range all {
			if slices.Contains(r.GetNodes(), h.GetNode()) {
				to.EgressHostings = append(to.EgressHostings, h)
			}
		}
		return err
	}
	return fmt.Errorf("unexpected request %T", args)
}

func (s *egressStore) update(do func(tx *bucket.Tx)) uint64 {
	s.t.Helper()
	sequence, err := s.Update(shortly(s.t), func(tx *bucket.Tx) error { do(tx); return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return sequence
}

// assign stores how a namespace leaves: by an address on another node.
func (s *egressStore) assign(namespace string, vnid uint32) uint64 {
	return s.update(func(tx *bucket.Tx) {
		s.assignments.Put(tx, &egressv1.EgressAssignment{
			Namespace: namespace, Selection: "default", Netid: &vnid, Addresses: []*egressv1.AssignedAddress{{
				Ip: "192.0.2.100", State: egressv1.AddressState_ADDRESS_STATE_HOSTED, Node: "node2", NodeIp: "192.0.2.12",
			}},
		}, namespace, "default")
	})
}

// leaver is an agent as far as leaving is concerned.
type leaver struct {
	*egress
	t     *testing.T
	state *intent.State
	stop  func()
}

// newLeaver starts one with pods of these namespaces, whose VNIDs are 42, 43, and so on.
func newLeaver(t *testing.T, server *natsdtest.Server, store *egressStore, dir string, namespaces ...string) *leaver {
	t.Helper()
	state := complete(t)
	state.FollowEgress(egressmark.Reserved{})
	l := &leaver{t: t, state: state, egress: &egress{
		node: "node1", state: state, queue: func(intent.Change) {}, forget: func(intent.Object) {}, log: hclog.NewNullLogger(),
		refuse: func(o intent.Object, err error) { t.Errorf("%v: %v", o, err) }, ways: make(chan changedWay, manyWays),
		host: egresshost.New(egresshost.Config{Log: hclog.NewNullLogger()}), own: map[string]bool{}, hosting: map[string]bool{}, ctx: t.Context(),
	}}
	l.followed = followEgress(server.Connect(), store, func(kind string) string { return filepath.Join(dir, kind) }, l.egress, hclog.NewNullLogger())
	l.begin()
	for i, namespace := range namespaces {
		state.SetNetNamespace(&tenancyv1.NetNamespace{Name: namespace, Netid: uint32(42 + i)}) //nolint:gosec // few
		state.AddPod(podOfNamespace(i, namespace))
		l.podsWant(namespace)
	}
	var stops []func()
	for _, run := range []func(context.Context) error{l.followed.assignments.Run, l.followed.pods.Run, l.followed.hosting.Run} {
		stops = append(stops, during(t, run))
	}
	l.stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
	return l
}

func podOfNamespace(i int, namespace string) intent.Pod {
	return intent.Pod{Namespace: namespace, Name: "p", Sandbox: namespace, Ifname: "eth0", IP: netip.AddrFrom4([4]byte{10, 130, 0, byte(5 + i)}), Port: uint32(3 + i)} //nolint:gosec // few
}

// closed says whether a pod is kept inside.
func (l *leaver) closed(i int) bool {
	for _, flows := range l.state.CompileAll() {
		for _, f := range flows {
			if text := f.String(); f.Table == 100 && strings.Contains(text, "priority=180") && strings.Contains(text, podOfNamespace(i, "").IP.String()+" ") {
				return true
			}
		}
	}
	return false
}

// leaves says whether packets of a VNID are led to another node.
func (l *leaver) leaves(vnid int) bool {
	for _, f := range l.state.CompileAll()[fmt.Sprintf("egress vnid %d", vnid)] {
		if strings.Contains(f.String(), "->tun_dst") {
			return true
		}
	}
	return false
}

func (l *leaver) until(what string, holds func() bool) {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestWhatIsKnownOfLeavingOutlivesARestart starts an agent, and another one while egress
// is away, with one namespace more.
func TestWhatIsKnownOfLeavingOutlivesARestart(t *testing.T) {
	server := natsdtest.New(t)
	store := newEgressStore(t, server)
	store.assign("red", 42)
	dir := t.TempDir()
	l := newLeaver(t, server, store, dir, "red", "plain")
	l.until("it is known how pods leave", func() bool { return l.leaves(42) && !l.closed(0) && !l.closed(1) })
	if l.leaves(43) {
		t.Error("the namespace without egress IPs leaves by one")
	}
	if revision, follows := l.state.Revision(intent.Object{Kind: intent.KindEgress, Name: "plain"}); !follows {
		t.Errorf("a namespace without egress IPs is not followed, revision %d", revision)
	}
	// A change comes by the bus, and has a revision to wait for.
	seen := store.assign("plain", 43)
	l.until("the change is there", func() bool {
		revision, _ := l.state.Revision(intent.Object{Kind: intent.KindEgress, Name: "plain"})
		return revision == seen && l.leaves(43)
	})
	gone := store.update(func(tx *bucket.Tx) { store.assignments.Delete(tx, "plain", "default") })
	l.until("its end has a revision too", func() bool {
		revision, _ := l.state.Revision(intent.Object{Kind: intent.KindEgress, Name: "plain"})
		return revision == gone && !l.leaves(43) && !l.closed(1)
	})
	l.stop()

	store.setAway(true)
	again := newLeaver(t, server, store, dir, "red", "plain", "new")
	again.until("what was known is known", func() bool { return again.leaves(42) && !again.closed(0) && !again.closed(1) })
	if !again.closed(2) {
		t.Error("a namespace of which nothing is known is open")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	again.known(ctx, "new") // it does not wait for a service that is away
	store.setAway(false)
	again.until("it opens by itself", func() bool { return !again.closed(2) })
	again.podsDrop("red")
	if again.leaves(42) {
		t.Error("a namespace that nobody follows leaves as it last did")
	}
}

// TestPodsAreFollowedForWhatIsHosted has an address whose VNID does not tell.
func TestPodsAreFollowedForWhatIsHosted(t *testing.T) {
	server := natsdtest.New(t)
	store := newEgressStore(t, server)
	store.update(func(tx *bucket.Tx) {
		store.hostings.Put(tx, &egressv1.EgressHosting{Node: "node1", Addresses: []*egressv1.HostedAddress{
			{Ip: "192.0.2.100", Namespace: "blue", Selection: "default", Netid: 50, MatchPods: true}, {Ip: "192.0.2.101", Namespace: "red", Selection: "default", Netid: 51},
		}}, "node1")
		store.pods.Put(tx, &egressv1.EgressPods{Namespace: "blue", Selection: "default", PodIps: []string{"10.131.0.5"}}, "blue", "default")
		store.pods.Put(tx, &egressv1.EgressPods{Namespace: "red", Selection: "default", PodIps: []string{"10.131.0.6"}}, "red", "default")
	})
	l := newLeaver(t, server, store, t.TempDir())
	follows := func(namespace string) bool {
		_, is := l.state.Revision(intent.Object{Kind: intent.KindEgressPods, Name: namespace + "/default"})
		return is
	}
	l.until("the pods are known", func() bool { return follows("blue") })
	if follows("red") {
		t.Error("pods are followed that nobody asks for")
	}
	store.update(func(tx *bucket.Tx) { store.hostings.Put(tx, &egressv1.EgressHosting{Node: "node1"}, "node1") })
	l.until("they are followed no more", func() bool { return !follows("blue") })
}
