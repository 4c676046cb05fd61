package flowsync

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// startStamped is a Syncer with the pipeline's stamp, and how to end it.
func startStamped(t *testing.T, ovs *ovstest.Switch) (*Syncer, func()) {
	t.Helper()
	s := New(Config{
		Socket: ovs.MgmtSocket("br0"), Fragments: openflow.FragmentsNXMatch,
		Stamp: &Stamp{Owner: pipeline.StampOwner, Flows: pipeline.Stamp, Number: pipeline.StampNumber},
	}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx)
	}()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	return s, stop
}

// stampOf is the number of the stamp in the switch, which must be whole and the only one.
func stampOf(t *testing.T, s *Syncer) uint16 {
	t.Helper()
	flows, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var stamp []openflow.Flow
	for _, f := range flows {
		if f.Owner == pipeline.StampOwner {
			stamp = append(stamp, f.Flow)
		}
	}
	if len(stamp) == 0 {
		t.Fatal("there is no stamp")
	}
	number, of := pipeline.StampNumber(stamp[0])
	if !of || !same(pipeline.Stamp(number), stamp) {
		t.Fatalf("the switch has a stamp of\n%s", show(stamp))
	}
	return number
}

var cachedUDP = regexp.MustCompile(`(?m)^.*ipv4\(proto=17,.*actions:(.*)$`)

// TestWhatASwitchHasCachedEndsWithAChange lets the switch cache two overlapping answers, both
// right, of which the wider is found first: Open vSwitch 3.1 corrects that one twice, and the
// narrower never.
func TestWhatASwitchHasCachedEndsWithAChange(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	for i := 1; i <= 2; i++ {
		ovs.Vsctl(t, "add-port", "br0", fmt.Sprint("p", i), "--", "set", "Interface", fmt.Sprint("p", i), "type=dummy", fmt.Sprint("ofport_request=", i))
	}
	s, _ := startStamped(t, ovs)
	receive := func(protocol string) {
		ovs.Appctl(t, "netdev-dummy/receive", "p1", "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),"+
			"ipv4(src=10.0.0.1,dst=10.0.0.2,tos=0,ttl=64,frag=no,proto="+protocol)
	}
	udp := func(port int) { receive(fmt.Sprintf("17),udp(src=1000,dst=%d)", port)) }
	all := func(actions ...openflow.Action) []openflow.Flow {
		return []openflow.Flow{{Priority: 100, Match: openflow.UDP(), Actions: actions}}
	}
	reconcile(t, s, wanted{"all": all(), "ports": {{Priority: 200, Match: openflow.UDP().DstPortMasked(8080, 0xfffe)}}})
	receive("1),icmp(type=8,code=0)") // Masks that do not look at ports are looked up first from here on.
	udp(8080)
	apply(t, s, Change{Owner: "ports"})
	ovs.Settle(t)
	udp(7000)
	apply(t, s, Change{Owner: "all", Flows: all(openflow.Output(2))})
	ovs.Settle(t)
	udp(7000)
	udp(8080)
	cached := cachedUDP.FindAllStringSubmatch(ovs.Appctl(t, "dpctl/dump-flows"), -1)
	if len(cached) == 0 {
		t.Error("nothing is cached")
	}
	for _, c := range cached {
		if strings.TrimSpace(c[1]) != "2" {
			t.Errorf("all UDP is to leave by port 2, and this is cached: %s", c[0])
		}
	}
}

func TestEachChangeHasAStampOfItsOwnAndAStartHasNone(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	s, stop := startStamped(t, ovs)
	want := wanted{"pod a/1": pod(1, 7)}
	if diff := reconcile(t, s, want); len(diff.Added) != 3 || len(diff.Modified)+len(diff.Deleted) != 0 {
		t.Errorf("first comparison: got %+v", diff)
	}
	first := stampOf(t, s)
	apply(t, s, Change{"pod a/1", want["pod a/1"]})
	if got := stampOf(t, s); got != first {
		t.Errorf("after no change: got stamp %d, want still %d", got, first)
	}
	want["pod a/1"] = pod(1, 8)
	apply(t, s, Change{"pod a/1", want["pod a/1"]})
	second := stampOf(t, s)
	if second == first {
		t.Error("a change has left the stamp")
	}
	if written, deleted := s.Counters(); written != 5 || deleted != 0 {
		t.Errorf("counted %d written and %d deleted, want the pod's 3 and 2, and none", written, deleted)
	}
	stop()

	s, stop = startStamped(t, ovs)
	if diff := reconcile(t, s, want); !diff.Empty() {
		t.Errorf("second start: got %+v", diff)
	}
	if got := stampOf(t, s); got != second {
		t.Errorf("second start: got stamp %d, want still %d", got, second)
	}
	ovs.Ofctl(t, "del-flows", "br0", "table=30")
	if diff := reconcile(t, s, nil); !diff.Empty() {
		t.Errorf("a part of the stamp was missing: got %+v", diff)
	}
	third := stampOf(t, s)
	if third == second {
		t.Error("a stamp that was not whole was kept")
	}
	stop()

	ovs.Ofctl(t, "--strict", "del-flows", "br0", "table=70,priority=100,ip,nw_dst=10.128.0.1")
	ovs.Ofctl(t, "del-flows", "br0", "table=30")
	s, _ = startStamped(t, ovs)
	if diff := reconcile(t, s, want); len(diff.Added) != 1 {
		t.Errorf("start with less: got %+v", diff)
	}
	if got := stampOf(t, s); got == second || got == third {
		t.Errorf("a repair has left stamp %d", got)
	}
}

func TestChangesAtOnceLeaveOneStamp(t *testing.T) {
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	s, _ := startStamped(t, ovs)
	reconcile(t, s, wanted{})
	before := stampOf(t, s)
	var working sync.WaitGroup
	const pods = 40
	for n := range pods {
		working.Go(func() {
			apply(t, s, Change{fmt.Sprint("pod a/", n), pod(n, 7)})
		})
		working.Go(func() {
			if n%8 == 0 {
				reconcile(t, s, nil)
			}
		})
	}
	working.Wait()
	if got := stampOf(t, s); got != before+pods {
		t.Errorf("after %d changes of stamp %d: got %d", pods, before, got)
	}
	if written, _ := s.Counters(); written != 3*pods {
		t.Errorf("counted %d written, want %d", written, 3*pods)
	}
	bad := []openflow.Flow{{Table: 90, Priority: 1, Actions: []openflow.Action{openflow.Group(99)}}}
	var refused *openflow.RefusedError
	if err := s.Apply(t.Context(), Change{"bad", bad}); !errors.As(err, &refused) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if got := stampOf(t, s); got != before+pods {
		t.Errorf("after a refused change: got stamp %d, want %d", got, before+pods)
	}
	apply(t, s, Change{"pod a/0", nil})
	if got := stampOf(t, s); got == before+pods {
		t.Error("a change after a refused one has left the stamp")
	}
}
