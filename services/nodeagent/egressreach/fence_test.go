package egressreach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/damask-sdn/damask/internal/netnstest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// hosting writes down what a fence wants.
type hosting struct {
	mu     sync.Mutex
	did    []string
	at     time.Time // when the last was done
	refuse int       // so many calls of Close fail
	none   bool
}

func (h *hosting) Hosts() bool { return !h.none }

func (h *hosting) Close(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse > 0 {
		h.refuse--
		return errors.New("as told")
	}
	h.did, h.at = append(h.did, "close"), time.Now()
	return nil
}

func (h *hosting) Open(revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did, h.at = append(h.did, fmt.Sprintf("open %d", revision)), time.Now()
}

func (h *hosting) done() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.did)
}

func newFence(prober *Prober, h Hosting) *Fence { return NewFence(prober, h, hclog.NewNullLogger()) }

const fenced = 100 * time.Millisecond

// observers are addresses of the neighbour, each an observer that can fall silent.
func observers(n int) (ips []string) {
	for i := range n {
		ips = append(ips, fmt.Sprintf("10.130.1.%d", i+1))
	}
	return ips
}

func (f *Fence) tell(t *testing.T, all []string, may ...uint64) {
	t.Helper()
	answer := &egressv1.ReportReachabilityResponse{Fence: durationpb.New(fenced), Patience: durationpb.New(patience), Observers: &egressv1.EgressObservers{}}
	for _, ip := range all {
		answer.Observers.Observers = append(answer.Observers.Observers, &egressv1.ReachabilityTarget{Node: ip, Address: ip})
	}
	for _, revision := range may {
		answer.MayHost = &revision
	}
	if err := f.told(answer); err != nil {
		t.Fatal(err)
	}
}

// scene is a node with observers, and a fence that is open.
type scene struct {
	t       *testing.T
	other   *netnstest.Namespace
	fence   *Fence
	hosting *hosting
	all     []string
}

func newScene(t *testing.T, n int) *scene {
	t.Helper()
	_, other, prober := world(t)
	s := &scene{t: t, other: other, hosting: &hosting{}, all: observers(n)}
	s.fence = newFence(prober, s.hosting)
	for _, ip := range s.all {
		s.speak(ip)
	}
	start(t, prober.Run, s.fence.Run)
	s.fence.tell(t, s.all)
	s.asks()
	s.fence.tell(t, s.all, 5)
	s.want("[open 5]")
	return s
}

func (s *scene) speak(ip string) { s.other.Run(s.t, "ip", "address", "add", ip+"/14", "dev", "eth0") }
func (s *scene) silent(ip string) {
	s.other.Run(s.t, "ip", "address", "delete", ip+"/14", "dev", "eth0")
}

// until waits for a condition.
func (s *scene) until(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("never: %s; done was %s", what, s.hosting.done())
		}
	}
}

func (s *scene) asks() {
	s.t.Helper()
	s.until("it asks", s.fence.Asks)
}

func (s *scene) want(did string) {
	s.t.Helper()
	s.until(did, func() bool { return s.hosting.done() == did })
}

// looked waits until the fence has looked for longer than it takes to close.
func (s *scene) looked() {
	begun := time.Now()
	s.until("time passes", func() bool { return time.Since(begun) > 3*fenced })
}

func TestTheFenceClosesWhenMostObserversAreSilent(t *testing.T) {
	s := newScene(t, 3)
	s.silent(s.all[0])
	s.looked()
	if got := s.hosting.done(); got != "[open 5]" {
		t.Fatalf("one observer of three is silent, and done was %s", got)
	}
	begun := time.Now()
	s.silent(s.all[1])
	s.want("[open 5 close]")
	t.Logf("closed after %s, with a fence of %s and %s until observers say so", s.hosting.at.Sub(begun), fenced, patience)
	if s.fence.tell(t, s.all, 6); s.hosting.done() != "[open 5 close]" {
		t.Error("it opens while most are silent")
	}
	s.looked()
	if s.fence.Asks() {
		t.Error("it asks while most are silent")
	}
	s.speak(s.all[1])
	s.asks()
	if s.hosting.done() != "[open 5 close]" {
		t.Error("it opens without being told")
	}
	s.fence.tell(t, s.all, 7)
	s.want("[open 5 close open 7]")
	if s.fence.Asks() {
		t.Error("it asks and may already")
	}
}

// TestWhoHasNeverAnsweredDoesNotOpenTheFence is about a node that starts before its observers
// can be reached. Opened before they have answered it would be closed a moment later.
func TestWhoHasNeverAnsweredDoesNotOpenTheFence(t *testing.T) {
	_, other, prober := world(t)
	s := &scene{t: t, other: other, hosting: &hosting{}, all: observers(3)}
	s.fence = newFence(prober, s.hosting)
	s.fence.tell(t, s.all)
	began := time.Now()
	for _, ip := range s.all { // asked for the first time just now, so that nobody is silent for long
		prober.Send(netip.MustParseAddr(ip))
	}
	s.fence.look(t.Context(), began)
	if s.fence.look(t.Context(), began.Add(2*patience)); s.fence.Asks() {
		t.Error("a fence asks though no observer has answered")
	}
	for _, ip := range s.all {
		s.speak(ip)
	}
	start(t, prober.Run, s.fence.Run)
	s.asks()
	s.fence.tell(t, s.all, 5)
	s.want("[open 5]")
}

func TestTheFenceStaysOpenWhereNobodyCanBeCalledDead(t *testing.T) {
	for n := range 2 {
		s := newScene(t, n)
		for _, ip := range s.all {
			s.silent(ip)
		}
		s.looked()
		if got := s.hosting.done(); got != "[open 5]" {
			t.Errorf("with %d observers, done was %s", n, got)
		}
	}
}

func TestWhoHostsNothingClosesNothing(t *testing.T) {
	s := newScene(t, 2)
	s.fence.mu.Lock()
	s.hosting.none = true
	s.fence.mu.Unlock()
	s.silent(s.all[0])
	s.silent(s.all[1])
	s.looked()
	if got := s.hosting.done(); got != "[open 5]" {
		t.Errorf("done was %s", got)
	}
}

func TestACloseThatFailsIsTriedAgain(t *testing.T) {
	s := newScene(t, 2)
	s.hosting.mu.Lock()
	s.hosting.refuse = 3
	s.hosting.mu.Unlock()
	s.silent(s.all[0])
	s.silent(s.all[1])
	s.want("[open 5 close]")
}

// TestACloseThatFailsUntilObserversAnswerIsOpened is about a node that starts: its guard is not
// there when it must close for the first time, and then it is cut off no more.
func TestACloseThatFailsUntilObserversAnswerIsOpened(t *testing.T) {
	s := newScene(t, 2)
	const always = 1 << 30
	left := func() int {
		s.hosting.mu.Lock()
		defer s.hosting.mu.Unlock()
		return s.hosting.refuse
	}
	s.hosting.mu.Lock()
	s.hosting.refuse = always
	s.hosting.mu.Unlock()
	for _, ip := range s.all {
		s.silent(ip)
	}
	s.until("it tries to close, and again", func() bool { return left() <= always-2 })
	for _, ip := range s.all {
		s.speak(ip)
	}
	s.asks()
	s.fence.tell(t, s.all, 6)
	s.want("[open 5 open 6]")
}

func TestObserversThatAreReplacedDoNotCount(t *testing.T) {
	s := newScene(t, 2)
	s.silent(s.all[0])
	s.silent(s.all[1])
	s.want("[open 5 close]")
	s.fence.tell(t, []string{"10.130.0.1"})
	s.asks()
}

// TestAnEgressThatKnowsNothingOfFences opens at once, and never closes.
func TestAnEgressThatKnowsNothingOfFences(t *testing.T) {
	_, _, prober := world(t)
	h := &hosting{}
	f := newFence(prober, h)
	if err := f.told(&egressv1.ReportReachabilityResponse{}); err != nil {
		t.Fatal(err)
	}
	if got := h.done(); got != "[open 0]" {
		t.Errorf("done was %s", got)
	}
	for name, answer := range map[string]*egressv1.ReportReachabilityResponse{
		"no time":            {Fence: durationpb.New(0), Patience: durationpb.New(patience)},
		"after the patience": {Fence: durationpb.New(patience), Patience: durationpb.New(patience)},
		"no address": {Fence: durationpb.New(fenced), Patience: durationpb.New(patience),
			Observers: &egressv1.EgressObservers{Observers: []*egressv1.ReachabilityTarget{{Node: "n"}}}},
	} {
		if err := f.told(answer); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestTheQuestionIsReportedUntilItIsAnswered looks at the stream.
func TestTheQuestionIsReportedUntilItIsAnswered(t *testing.T) {
	_, _, prober := world(t)
	service, client := serve(t)
	h := &hosting{}
	f := newFence(prober, h)
	start(t, prober.Run, f.Run, New(map[string]egressv1.EgressNodeServiceClient{"a": client}, prober, f, hclog.NewNullLogger()).Run)
	f.tell(t, nil)
	for asked, end := 0, time.After(limit); asked < 3; {
		select {
		case r := <-service.reports:
			if r.GetAsksToHost() {
				asked++
			}
		case service.targets <- nil: // it must hear something before it reports again and again
		case <-end:
			t.Fatal("nobody asks")
		}
	}
}
