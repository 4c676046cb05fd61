package flowsync

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// limit is how long a test waits for anything before it fails.
const limit = 30 * time.Second

type wanted = map[string][]openflow.Flow

// start runs a Syncer on a bridge br0 of a switch of its own.
func start(t testing.TB) (*ovstest.Switch, *Syncer) {
	t.Helper()
	ovs := ovstest.Start(t, ovstest.Options{})
	ovs.AddBridge(t, "br0")
	return ovs, run(t, ovs)
}

func run(t testing.TB, ovs *ovstest.Switch) *Syncer {
	t.Helper()
	s := New(Config{Socket: ovs.MgmtSocket("br0"), Fragments: openflow.FragmentsNXMatch}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s
}

func reconcile(t testing.TB, s *Syncer, want wanted) Diff {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	diff, err := s.Reconcile(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	return diff
}

func apply(t testing.TB, s *Syncer, changes ...Change) {
	t.Helper()
	if err := s.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
}

// pod are the flows of a pod, one of which depends on its tenant.
func pod(n int, vnid uint32) []openflow.Flow {
	addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(128 + n>>16), byte(n >> 8), byte(n)}), 32)
	port := uint32(n) + 3
	return []openflow.Flow{
		{Table: 20, Priority: 100, Match: openflow.IP().InPort(port).IPSrc(addr), Actions: []openflow.Action{openflow.LoadReg(0, vnid), openflow.Goto(21)}},
		{Table: 40, Priority: 100, Match: openflow.ARP().ARPTarget(addr), Actions: []openflow.Action{openflow.Output(port)}},
		{Table: 70, Priority: 100, Match: openflow.IP().IPDst(addr), Actions: []openflow.Action{openflow.LoadReg(1, vnid), openflow.LoadReg(2, port), openflow.Goto(80)}},
	}
}

// show writes flows with their owners' cookies, sorted.
func show(flows []openflow.Flow) string {
	var lines []string
	for _, f := range flows {
		lines = append(lines, fmt.Sprintf("cookie=%#x %s", f.Cookie, f))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// scratch is what the switch should have for want.
func scratch(want wanted) string {
	var all []openflow.Flow
	for owner, flows := range want {
		for _, f := range flows {
			f.Cookie = Cookie(owner)
			all = append(all, f)
		}
	}
	return show(all)
}

// installed is what the switch has.
func installed(t testing.TB, s *Syncer) string {
	t.Helper()
	flows, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []openflow.Flow
	for _, f := range flows {
		all = append(all, f.Flow)
	}
	return show(all)
}

func compareAll(t testing.TB, s *Syncer, want wanted) {
	t.Helper()
	if got, want := installed(t, s), scratch(want); got != want {
		t.Errorf("the switch has\n%s\nwant\n%s", got, want)
	}
}

var receivedText = regexp.MustCompile(`received: ([A-Z0-9_]+)`)

// received is what the switch says it got by OpenFlow while f ran, message by message.
func received(t testing.TB, ovs *ovstest.Switch, f func()) []string {
	t.Helper()
	// The log is written in order, and behind: what was before a question is there when the
	// question is.
	const question = "received request vlog/list"
	logged := func() string {
		read := func() string {
			text, err := os.ReadFile(filepath.Join(ovs.Dir(), "ovs-vswitchd.log"))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		asked := strings.Count(read(), question)
		ovs.Appctl(t, "vlog/list")
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			text := read()
			if strings.Count(text, question) > asked {
				return text
			}
			if time.Now().After(end) {
				t.Fatal("the log of ovs-vswitchd has not come to its end")
			}
		}
	}
	ovs.Appctl(t, "vlog/set", "unixctl:file:dbg")
	ovs.Appctl(t, "vlog/set", "vconn:file:dbg")
	ovs.Appctl(t, "vlog/disable-rate-limit", "vconn")
	before := logged()
	f()
	after := logged()
	ovs.Appctl(t, "vlog/set", "vconn:file:info")
	var messages []string
	for _, m := range receivedText.FindAllStringSubmatch(after[len(before):], -1) {
		messages = append(messages, m[1])
	}
	return messages
}

func TestTheSwitchGetsOneBundleAChangeAndNoneForNoChange(t *testing.T) {
	ovs, s := start(t)
	reconcile(t, s, wanted{})
	cases := []struct {
		what string
		do   func()
		want []string
	}{
		{"a pod", func() { apply(t, s, Change{"pod a/1", pod(1, 7)}) }, []string{
			"ONFT_BUNDLE_CONTROL", "ONFT_BUNDLE_ADD_MESSAGE", "ONFT_BUNDLE_ADD_MESSAGE", "ONFT_BUNDLE_ADD_MESSAGE",
			"OFPT_BARRIER_REQUEST", "ONFT_BUNDLE_CONTROL"}},
		{"the same pod", func() { apply(t, s, Change{"pod a/1", pod(1, 7)}) }, nil},
		{"a comparison", func() { reconcile(t, s, nil) }, []string{"OFPST_FLOW"}},
		{"a comparison with the same state", func() { reconcile(t, s, wanted{"pod a/1": pod(1, 7)}) }, []string{"OFPST_FLOW"}},
	}
	for _, c := range cases {
		if got := received(t, ovs, c.do); !slices.Equal(got, c.want) {
			t.Errorf("%s: the switch got %q, want %q", c.what, got, c.want)
		}
	}
}

func TestApplySendsTheDifferenceAlone(t *testing.T) {
	_, s := start(t)
	reconcile(t, s, wanted{})
	steps := []struct {
		what             string
		changes          []Change
		written, deleted uint64
	}{
		{"a new pod", []Change{{"pod a/1", pod(1, 7)}}, 3, 0},
		{"the same again", []Change{{"pod a/1", pod(1, 7)}}, 0, 0},
		{"another tenant: actions of two flows", []Change{{"pod a/1", pod(1, 8)}}, 2, 0},
		{"one flow less", []Change{{"pod a/1", pod(1, 8)[:2]}}, 0, 1},
		{"two owners at once", []Change{{"pod a/2", pod(2, 8)}, {"pod a/3", pod(3, 8)}}, 6, 0},
		{"flows change hands", []Change{{"pod b/2", pod(2, 8)}, {"pod a/2", nil}}, 3, 0},
		{"and back, named in the other order", []Change{{"pod b/2", nil}, {"pod a/2", pod(2, 8)}}, 3, 0},
		{"an address changes", []Change{{"pod a/3", pod(4, 8)}}, 3, 3},
		{"removed", []Change{{"pod a/1", nil}, {"pod a/2", nil}}, 0, 5},
		{"removed again", []Change{{"pod a/1", nil}, {"pod never/was", nil}}, 0, 0},
	}
	want := wanted{}
	var written, deleted uint64
	for _, step := range steps {
		apply(t, s, step.changes...)
		w, d := s.Counters()
		if w-written != step.written || d-deleted != step.deleted {
			t.Errorf("%s: got %d written and %d deleted, want %d and %d", step.what, w-written, d-deleted, step.written, step.deleted)
		}
		written, deleted = w, d
		for _, c := range step.changes {
			want[c.Owner] = c.Flows
		}
		compareAll(t, s, want)
	}
	if got, want := s.Size(), 3; got != want {
		t.Errorf("size got %d, want %d", got, want)
	}
}

func TestReconcileSendsNothingWhenNothingDiffers(t *testing.T) {
	ovs, s := start(t)
	want := wanted{"base": {{Table: 0}, {Table: 253, Actions: []openflow.Action{openflow.Note([]byte{2, 0})}}}}
	for n := range 50 {
		want[fmt.Sprintf("pod a/%d", n)] = pod(n, 9)
	}
	diff := reconcile(t, s, want)
	if len(diff.Added) != 152 || len(diff.Modified)+len(diff.Deleted) != 0 {
		t.Errorf("first time got %d added, %d modified, %d deleted", len(diff.Added), len(diff.Modified), len(diff.Deleted))
	}
	restarted := run(t, ovs) // As an agent that starts again beside the same switch.
	for what, syncer := range map[string]*Syncer{"audit": s, "restart": restarted} {
		var diff Diff
		got := received(t, ovs, func() { diff = reconcile(t, syncer, want) })
		if !diff.Empty() || slices.ContainsFunc(got, changes) {
			t.Errorf("%s: the switch got %q, with the difference %+v", what, got, diff)
		}
	}
	if w, d := restarted.Counters(); w != 0 || d != 0 {
		t.Errorf("restart wrote %d and deleted %d flows", w, d)
	}
	compareAll(t, restarted, want)
}

// changes reports whether a message is more than a question.
func changes(message string) bool {
	return strings.Contains(message, "BUNDLE") || strings.Contains(message, "MOD")
}

func TestReconcileRepairsWhatOthersDid(t *testing.T) {
	ovs, s := start(t)
	want := wanted{"pod a/1": pod(1, 7), "pod a/2": pod(2, 7), "pod a/3": pod(3, 7)}
	reconcile(t, s, want)
	ovs.Ofctl(t, "--strict", "del-flows", "br0", "table=40,priority=100,arp,arp_tpa=10.128.0.1")
	ovs.Ofctl(t, "mod-flows", "br0", "table=70,ip,nw_dst=10.128.0.1,actions=drop")
	ovs.Ofctl(t, "add-flow", "br0", fmt.Sprintf("table=40,priority=100,cookie=%#x,arp,arp_tpa=10.128.0.2,idle_timeout=1000,actions=output:5", Cookie("pod a/2")))
	ovs.Ofctl(t, "add-flow", "br0", "table=40,priority=100,cookie=5,arp,arp_tpa=10.128.0.3,actions=output:6")
	ovs.Ofctl(t, "add-flow", "br0", "table=7,priority=1,actions=learn(table=8,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])")
	ovs.Ofctl(t, "add-flow", "br0", "table=7,priority=2,tun_gbp_id=3,actions=write_actions(output:1)")
	diff := reconcile(t, s, nil)
	if len(diff.Added) != 1 || len(diff.Modified) != 3 || len(diff.Deleted) != 2 {
		t.Errorf("got added %v\nmodified %v\ndeleted %v\nwant 1, 3 and 2", diff.Added, diff.Modified, diff.Deleted)
	}
	compareAll(t, s, want)
	if diff := reconcile(t, s, want); !diff.Empty() {
		t.Errorf("again got %+v", diff)
	}
}

func TestOwnersThatAreNotWantedAnyMoreLoseTheirFlows(t *testing.T) {
	_, s := start(t)
	reconcile(t, s, wanted{"pod a/1": pod(1, 7), "pod a/2": pod(2, 7)})
	want := wanted{"pod a/2": pod(2, 7), "pod b/1": pod(1, 7)}
	diff := reconcile(t, s, want)
	if len(diff.Modified) != 3 || len(diff.Added)+len(diff.Deleted) != 0 {
		t.Errorf("got %+v, want three flows with another cookie", diff)
	}
	compareAll(t, s, want)
}

func TestTwoOwnersOfOneFlowAreRefusedByName(t *testing.T) {
	ovs, s := start(t)
	reconcile(t, s, wanted{"pod a/1": pod(1, 7)})
	cases := map[string]func() error{
		"another owner has it": func() error { return s.Apply(t.Context(), Change{"pod b/1", pod(1, 9)[1:2]}) },
		"both are new": func() error {
			return s.Apply(t.Context(), Change{"pod a/1", nil}, Change{"pod b/1", pod(5, 9)}, Change{"pod a/2", pod(5, 7)})
		},
		"in a comparison": func() error {
			_, err := s.Reconcile(t.Context(), wanted{"pod a/1": pod(1, 7), "pod b/1": pod(1, 9)})
			return err
		},
	}
	for what, try := range cases {
		var err error
		if got := received(t, ovs, func() { err = try() }); len(got) > 0 {
			t.Errorf("%s: the switch got %q, want nothing", what, got)
		}
		var conflict *ConflictError
		if !errors.As(err, &conflict) || !strings.Contains(err.Error(), `"pod b/1"`) || !strings.Contains(err.Error(), "table=") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if err := s.Apply(t.Context(), Change{"x", append(pod(6, 1), pod(6, 1)...)}); err == nil || !strings.Contains(err.Error(), "table=20") {
		t.Errorf("the same flow twice: got %v", err)
	}
	if diff := reconcile(t, s, nil); !diff.Empty() {
		t.Errorf("desired state changed: %+v", diff)
	}
}

func TestARefusedApplyChangesNothing(t *testing.T) {
	_, s := start(t)
	want := wanted{"pod a/1": pod(1, 7)}
	reconcile(t, s, want)
	bad := append(pod(1, 8), openflow.Flow{Table: 90, Priority: 1, Actions: []openflow.Action{openflow.Group(99)}})
	err := s.Apply(t.Context(), Change{"pod a/1", bad}, Change{"pod a/2", pod(2, 8)})
	var refused *openflow.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "table=90") {
		t.Fatalf("got %v, want a refusal that names the flow", err)
	}
	if diff := reconcile(t, s, nil); !diff.Empty() {
		t.Errorf("got %+v, want nothing changed", diff)
	}
	compareAll(t, s, want)
	if err := s.Apply(t.Context(), Change{"pod a/1", []openflow.Flow{{Match: openflow.Any().Reg(77, 1)}}}); err == nil || !strings.Contains(err.Error(), "register 77") {
		t.Errorf("invalid flow: got %v", err)
	}
	want["pod a/1"] = pod(1, 9)
	apply(t, s, Change{"pod a/1", pod(1, 9)})
	compareAll(t, s, want)
}

func TestReconcileRepairsTheRestWhenTheSwitchRefusesAFlow(t *testing.T) {
	_, s := start(t)
	want := wanted{"pod a/1": pod(1, 7), "pod a/2": pod(2, 7), "bad": {{Table: 90, Priority: 1, Actions: []openflow.Action{openflow.Group(99)}}}}
	diff, err := s.Reconcile(t.Context(), want)
	var refused *openflow.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "table=90") || len(diff.Added) != 6 {
		t.Errorf("got %v and %d added, want a refusal of table 90 and 6 added", err, len(diff.Added))
	}
	delete(want, "bad")
	compareAll(t, s, want)
}

func TestNobodyTakesFlowsAwayBeforeKnowingWhatIsWanted(t *testing.T) {
	ovs, s := start(t)
	ovs.Ofctl(t, "add-flow", "br0", "table=1,actions=drop")
	if _, err := s.Reconcile(t.Context(), nil); err == nil {
		t.Error("got no error")
	}
	if err := s.Apply(t.Context(), Change{"pod a/1", pod(1, 7)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if got := installed(t, s); !strings.Contains(got, "table=1,") || strings.Contains(got, "\n") {
		t.Errorf("got %s, want the flow of before alone", got)
	}
}

func TestADumpNamesOwners(t *testing.T) {
	ovs, s := start(t)
	reconcile(t, s, wanted{"pod shop/web": pod(1, 7)[:1], "hostsubnet node-2": pod(2, 7)[:1]})
	ovs.Ofctl(t, "add-flow", "br0", "table=1,cookie=9,actions=drop")
	flows, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range flows {
		got = append(got, f.Owner)
	}
	if want := []string{"", "pod shop/web", "hostsubnet node-2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The published test vectors of FNV-1a.
	for owner, want := range map[string]uint64{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8} {
		if got := Cookie(owner); got != want {
			t.Errorf("cookie of %q got %#x, want %#x", owner, got, want)
		}
	}
}

func TestChangesOfDifferentOwnersDoNotWaitForEachOther(t *testing.T) {
	_, s := start(t)
	reconcile(t, s, wanted{})
	// A change of a hundred thousand flows is on its way while small ones are confirmed.
	var many []openflow.Flow
	for n := range 40_000 {
		many = append(many, pod(n+1000, 7)...)
	}
	big := make(chan time.Time, 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Apply(t.Context(), Change{"many", many}); err != nil {
			t.Error(err)
		}
		big <- time.Now()
	})
	for deadline := time.Now().Add(limit); s.underWay() == 0 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	apply(t, s, Change{"pod a/1", pod(1, 7)})
	small := time.Now()
	wait.Wait()
	if after := <-big; !small.Before(after) {
		t.Errorf("the small change waited %v for the big one", small.Sub(after))
	}
}

func (s *Syncer) underWay() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.inFlight
}

func TestManyAppliesOfOneOwnerEndWithTheLast(t *testing.T) {
	_, s := start(t)
	reconcile(t, s, wanted{})
	var wait sync.WaitGroup
	for w := range 8 {
		wait.Go(func() {
			for n := range 20 {
				if err := s.Apply(t.Context(), Change{"shared", pod(n%3, uint32(w))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	apply(t, s, Change{"shared", pod(1, 42)})
	compareAll(t, s, wanted{"shared": pod(1, 42)})
}
