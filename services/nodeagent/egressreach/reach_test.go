package egressreach

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/damask-sdn/damask/internal/netnstest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

const (
	interval, patience, every = 20 * time.Millisecond, 150 * time.Millisecond, 60 * time.Millisecond
	limit                     = 15 * time.Second
)

// service is a replica of egress: it says whom to watch and keeps what it is told.
type service struct {
	egressv1.UnimplementedEgressNodeServiceServer
	targets chan []*egressv1.ReachabilityTarget
	reports chan *egressv1.ReportReachabilityRequest
	streams chan context.CancelFunc // ends the newest stream
}

func (s *service) ReportReachability(stream grpc.BidiStreamingServer[egressv1.ReportReachabilityRequest, egressv1.ReportReachabilityResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	s.streams <- cancel
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case s.reports <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case targets := <-s.targets:
			err := stream.Send(&egressv1.ReportReachabilityResponse{Targets: targets, ProbeInterval: durationpb.New(interval),
				Patience: durationpb.New(patience), ReportInterval: durationpb.New(every), Fence: durationpb.New(fenced)})
			if err != nil {
				return err
			}
		}
	}
}

// serve starts a replica and answers a connection to it.
func serve(t *testing.T) (*service, egressv1.EgressNodeServiceClient) {
	t.Helper()
	s := &service{targets: make(chan []*egressv1.ReachabilityTarget), reports: make(chan *egressv1.ReportReachabilityRequest), streams: make(chan context.CancelFunc, 100)}
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	egressv1.RegisterEgressNodeServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return s, egressv1.NewEgressNodeServiceClient(conn)
}

func (s *service) watch(t *testing.T, targets map[string]string) {
	t.Helper()
	var all []*egressv1.ReachabilityTarget
	for node, address := range targets {
		all = append(all, &egressv1.ReachabilityTarget{Node: node, Address: address})
	}
	for end := time.After(limit); ; {
		select {
		case s.targets <- all:
			return
		case <-s.reports: // Nobody else takes them meanwhile.
		case <-end:
			t.Fatal("nobody asks whom to watch")
		}
	}
}

// until takes reports until one says this of the targets, all of them, and answers how
// long that took.
func (s *service) until(t *testing.T, hosting uint64, want map[string]bool) time.Duration {
	t.Helper()
	began, end := time.Now(), time.After(limit)
	var last *egressv1.ReportReachabilityRequest
	for {
		select {
		case last = <-s.reports:
		case <-end:
			t.Fatalf("the last report was %v, want revision %d and %v", last, hosting, want)
		}
		got := map[string]bool{}
		for _, o := range last.GetObservations() {
			got[o.GetTarget()] = o.GetReachable()
		}
		same := last.GetHostingRevision() == hosting && len(got) == len(want)
		for node, reachable := range want {
			same = same && got[node] == reachable
		}
		if same {
			return time.Since(began)
		}
	}
}

// world is a node with a neighbour, both with an address of the overlay.
func world(t *testing.T) (node, other *netnstest.Namespace, prober *Prober) {
	t.Helper()
	node, other = netnstest.New(t, "node"), netnstest.New(t, "other")
	node.Connect(t, "eth0", other, "eth0")
	for _, end := range []struct {
		ns *netnstest.Namespace
		ip string
	}{{node, "10.128.0.1/14"}, {other, "10.130.0.1/14"}} {
		end.ns.Run(t, "ip", "address", "add", end.ip, "dev", "eth0")
		end.ns.Run(t, "ip", "link", "set", "eth0", "up")
	}
	// The neighbour says of addresses behind it that they are unreachable, which is no sign of life.
	node.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "10.130.0.1")
	other.Run(t, "ip", "route", "add", "unreachable", "198.51.100.0/24")
	other.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
	node.Run(t, "ip", "route", "add", "unreachable", "203.0.113.0/24")
	// Of others it knows no route, which is another error, and of others again the node itself.
	node.Run(t, "ip", "route", "add", "198.18.0.0/15", "via", "10.130.0.1")
	var err error
	node.Do(t, func() { prober, err = OpenProber() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prober.Close() })
	return node, other, prober
}

// start runs parts until the test ends.
func start(t *testing.T, parts ...func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, part := range parts {
		running.Go(func() {
			if err := part(ctx); err != nil {
				t.Errorf("it ends with %v", err)
			}
		})
	}
	t.Cleanup(func() { cancel(); running.Wait() })
}

func TestReportsSayWhoAnswers(t *testing.T) {
	_, other, prober := world(t)
	s, client := serve(t)
	r := New(map[string]egressv1.EgressNodeServiceClient{"a": client}, prober, newFence(prober, &hosting{}), hclog.NewNullLogger())
	start(t, prober.Run, r.Run)
	s.until(t, 0, map[string]bool{})
	r.Confirm(7)
	s.until(t, 7, map[string]bool{})

	s.watch(t, map[string]string{"other": "10.130.0.1", "nobody": "10.131.0.1", "refused": "198.51.100.1", "routeless": "203.0.113.1"})
	s.until(t, 7, map[string]bool{"other": true, "nobody": false, "refused": false, "routeless": false})

	other.Run(t, "ip", "link", "set", "eth0", "down")
	silent := s.until(t, 7, map[string]bool{"other": false, "nobody": false, "refused": false, "routeless": false})
	t.Logf("a dead node is reported after %s, with a patience of %s", silent, patience)
	other.Run(t, "ip", "link", "set", "eth0", "up")
	s.until(t, 7, map[string]bool{"other": true, "nobody": false, "refused": false, "routeless": false})

	s.watch(t, map[string]string{"other": "10.130.0.1"})
	s.until(t, 7, map[string]bool{"other": true})
	r.Confirm(9)
	s.until(t, 9, map[string]bool{"other": true})
}

func TestReportsGoOnWhenNothingChanges(t *testing.T) {
	_, _, prober := world(t)
	s, client := serve(t)
	start(t, prober.Run, New(map[string]egressv1.EgressNodeServiceClient{"a": client}, prober, newFence(prober, &hosting{}), hclog.NewNullLogger()).Run)
	s.watch(t, nil)
	for range 5 {
		s.until(t, 0, map[string]bool{})
	}
}

func TestAReplicaThatIsAwayDelaysNoOther(t *testing.T) {
	_, _, prober := world(t)
	s, client := serve(t)
	gone, err := grpc.NewClient("unix:"+filepath.Join(t.TempDir(), "nothing"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gone.Close() })
	stuck, stuckClient := serve(t) // It takes no report, and says nothing.
	r := New(map[string]egressv1.EgressNodeServiceClient{"a": client, "gone": egressv1.NewEgressNodeServiceClient(gone), "stuck": stuckClient}, prober, newFence(prober, &hosting{}), hclog.NewNullLogger())
	start(t, prober.Run, r.Run)
	s.watch(t, map[string]string{"other": "10.130.0.1"})
	for revision := range uint64(20) {
		r.Confirm(revision)
		s.until(t, revision, map[string]bool{"other": true})
	}
	_ = stuck
}

func TestAStreamThatEndsIsOpenedAgain(t *testing.T) {
	_, _, prober := world(t)
	s, client := serve(t)
	r := New(map[string]egressv1.EgressNodeServiceClient{"a": client}, prober, newFence(prober, &hosting{}), hclog.NewNullLogger())
	start(t, prober.Run, r.Run)
	r.Confirm(3)
	for range 3 {
		s.watch(t, map[string]string{"other": "10.130.0.1"})
		s.until(t, 3, map[string]bool{"other": true})
		(<-s.streams)()
	}
}

func TestWhatMakesNoSenseIsNotFollowed(t *testing.T) {
	ms := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Millisecond) }
	for name, answer := range map[string]*egressv1.ReportReachabilityResponse{
		"no times":              {},
		"patience of no probe":  {ProbeInterval: ms(100), Patience: ms(50), ReportInterval: ms(100)},
		"a report all the time": {ProbeInterval: ms(100), Patience: ms(200)},
		"no address":            {ProbeInterval: ms(100), Patience: ms(200), ReportInterval: ms(100), Targets: []*egressv1.ReachabilityTarget{{Node: "n"}}},
	} {
		if err := (&watch{}).take(answer, time.Now()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestOnlyAnswersToOwnProbesCount(t *testing.T) {
	p := &Prober{token: [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, begun: time.Now(), peers: map[netip.Addr]*peer{}}
	sent := p.begun.Add(time.Second)
	reply := p.probe(sent)
	if p.ours(reply) {
		t.Error("a probe is taken for its answer")
	}
	reply[0] = echoReply
	if !p.ours(reply) {
		t.Error("an answer is not taken")
	}
	peer, stranger := &peer{waiting: []time.Time{sent.Add(-time.Second), sent, sent.Add(time.Second)}}, netip.MustParseAddr("10.131.0.1")
	p.peers[netip.MustParseAddr("10.130.0.1")] = peer
	if p.take(stranger, reply); len(p.peers) != 1 {
		t.Error("an answer of whom nobody asked is taken")
	}
	p.take(netip.MustParseAddr("10.130.0.1"), reply)
	if peer.seen.IsZero() || !slices.Equal(peer.waiting, []time.Time{sent.Add(time.Second)}) {
		t.Errorf("after an answer to the second of three probes %v wait, seen at %v", peer.waiting, peer.seen)
	}
	reply[15]++
	if p.ours(reply) || p.ours(reply[:10]) || p.ours(nil) {
		t.Error("somebody else's answer is taken")
	}
}
