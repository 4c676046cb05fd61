package svcsync

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func TestChangesComeIntoForce(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.put(service("web", "172.30.0.1"))
	r.putSlices(slice("web", "web-a", "10.130.0.1"), slice("orphan", "orphan-a", "10.130.0.9"))
	r.start().settled()
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1")))

	r.putSlices(slice("web", "web-b", "10.130.0.2"))
	r.put(service("api", "172.30.0.2"))
	r.settled()
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1", "10.130.0.2"), entry("api", "172.30.0.2")))

	r.removeSlice("shop/web-a")
	r.removeService("shop/api")
	r.settled()
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.2")))
	if open := r.board.open; len(open) != 1 || len(open[nameOf("shop/web")].Ports) != 1 {
		t.Errorf("the switch has %v", open)
	}
}

func TestARestartWithNothingChangedSendsNothing(t *testing.T) {
	for _, kind := range []string{"nftables", "iptables-nft", "iptables-legacy"} {
		t.Run(kind, func(t *testing.T) {
			proctest.Need(t, "nft", "iptables-nft", "iptables-legacy")
			r := newRig(t, kind)
			r.config = func(c *Config) {
				c.Engines.Others = map[string]Maker{"the other": r.maker(map[bool]string{true: "iptables-nft", false: "nftables"}[kind == "nftables"])}
			}
			r.put(service("web", "172.30.0.1"))
			r.putSlices(slice("web", "web-a", "10.130.0.1"))
			r.start().settled()
			before := r.ruleset()
			r.stop()
			if after := r.ruleset(); after != before {
				t.Fatalf("a stop leaves\n%s\nwant\n%s", after, before)
			}
			made := len(r.made)
			r.start().settled()
			if sent := r.made[made].sent; !sent.None() {
				t.Errorf("a restart sends %+v", sent)
			}
			if after := r.ruleset(); after != before {
				t.Errorf("a restart leaves\n%s\nwant\n%s", after, before)
			}
		})
	}
}

func TestAnotherEngineTakesOverAndTheOldRulesGo(t *testing.T) {
	proctest.Need(t, "nft", "iptables-nft")
	r := newRig(t, "iptables-nft")
	r.put(service("web", "172.30.0.1"))
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	r.start().settled()
	r.stop()
	r.kind = "nftables"
	r.config = func(c *Config) { c.Engines.Others = map[string]Maker{"iptables": r.maker("iptables-nft")} }
	r.start().settled()
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1")))
}

func TestNothingIsTakenOutBeforeEverythingIsKnown(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.put(service("web", "172.30.0.1"))
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	r.start().settled()
	r.stop()
	before := r.ruleset()

	// servicelb is away, and there is no cache of the slices.
	made := len(r.made)
	r.services.cached = true
	r.slices = newShelf[*servicelbv1.EndpointSlice]()
	r.services.synced, r.slices.synced = make(chan struct{}), make(chan struct{})
	r.start()
	if repairs, err := r.Audit(soon(t)); err != nil || repairs != nil {
		t.Errorf("an audit before everything is known: %q, %v", repairs, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience+200*time.Millisecond)
	defer cancel()
	if _, _, err := r.WaitProgrammed(ctx, KindService, "shop/web", 1); err == nil {
		t.Error("a service is in force, and nobody has said anything")
	}
	if len(r.made) != made || r.ruleset() != before {
		t.Errorf("the kernel has\n%s\nwant\n%s", r.ruleset(), before)
	}
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	close(r.services.synced)
	close(r.slices.synced)
	r.settled()
	if sent := r.made[made].sent; !sent.None() {
		t.Errorf("what was there already was sent again: %+v", sent)
	}
}

func TestACacheIsEnoughWhileServicelbIsAway(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.put(service("web", "172.30.0.1"))
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	r.services.cached, r.slices.cached = true, true
	r.services.synced, r.slices.synced = make(chan struct{}), make(chan struct{})
	r.start().settled()
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1")))
}

func TestChangesWhileTheEngineIsBusyAreTakenTogether(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.put(service("web", "172.30.0.1"))
	r.start().settled()
	busy, goOn := make(chan struct{}), make(chan struct{})
	e := r.engine()
	e.mu.Lock()
	e.before = func() { busy <- struct{}{}; <-goOn }
	e.mu.Unlock()
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	<-busy
	for _, last := range []string{"10.130.0.2", "10.130.0.3", "10.130.0.4"} {
		r.putSlices(slice("web", "web-a", last))
		r.put(service("api", "172.30.0.2"), service("db", "172.30.0.3"))
	}
	goOn <- struct{}{}
	<-busy
	goOn <- struct{}{}
	r.settled()
	if syncs, applies, keys := e.counts(); syncs != 1 || applies != 2 || keys != 4 {
		t.Errorf("the engine was asked to compare %d times and to change %d times, %d service ports; want 1, 2 and 4", syncs, applies, keys)
	}
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.4"), entry("api", "172.30.0.2"), entry("db", "172.30.0.3")))
}

func TestAfterAnErrorEverythingIsCompared(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.put(service("web", "172.30.0.1"))
	r.start().settled()
	e := r.engine()
	e.breakWith(errBroken)
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	followed, programmed, err := r.WaitProgrammed(ctx, KindEndpointSlice, "shop/web-a", r.revision)
	if !followed || programmed != 0 || err == nil || !strings.Contains(err.Error(), errBroken.Error()) {
		t.Errorf("got followed %v, revision %d, error %v", followed, programmed, err)
	}
	r.ns.Run(t, "nft", "flush", "ruleset") // and who knows what else happens meanwhile
	e.breakWith(nil)
	r.settled()
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1")))
}

func TestAnAuditRepairsAndSaysSo(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.put(service("web", "172.30.0.1"))
	r.putSlices(slice("web", "web-a", "10.130.0.1"))
	r.start().settled()
	if repairs, err := r.Audit(soon(t)); err != nil || len(repairs) != 0 {
		t.Errorf("nothing was wrong: got %q, error %v", repairs, err)
	}
	r.ns.Run(t, "nft", "delete", "table", "ip", "damask_proxy")
	if repairs, err := r.Audit(soon(t)); err != nil || len(repairs) != 1 || !strings.Contains(repairs[0], "engine nftables of services: ") {
		t.Errorf("got %q, error %v", repairs, err)
	}
	r.expectState(stateOf(entry("web", "172.30.0.1", "10.130.0.1")))
	r.stop()
	if _, err := r.Audit(soon(t)); err == nil {
		t.Error("an agent that has stopped was audited")
	}
}

func TestASwitchThatIsAwayHoldsUpNobodyElse(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.board.breakWith(ErrSwitchAway)
	r.put(service("web", "172.30.0.1"))
	r.start()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, programmed, err := r.WaitProgrammed(ctx, KindService, "shop/web", r.revision); err == nil {
		t.Errorf("revision %d counts as programmed without the switch", programmed)
	}
	r.expectState(stateOf(entry("web", "172.30.0.1")))
	r.board.breakWith(nil)
	r.settled()
}

// A new service is open in the switch once the kernel has it, and one that goes is
// closed before the kernel loses it.
func TestNoPacketIsLedWhereNothingIs(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.start()
	<-r.Begun() // what the agent begins with is open in the switch before that
	var seen []string
	r.board.before = func(opened []Opening, gone []serviceview.Name) {
		there := strings.Contains(r.ns.Run(t, "nft", "list", "ruleset"), "172.30.0.1")
		seen = append(seen, fmt.Sprintf("%d opened, %d gone, in the kernel: %v", len(opened), len(gone), there))
	}
	r.put(service("web", "172.30.0.1"))
	r.settled()
	r.putSlices(slice("web", "web-a", "10.130.0.1")) // nothing for the switch
	r.settled()
	r.removeService("shop/web")
	r.settled()
	want := []string{"1 opened, 0 gone, in the kernel: true", "0 opened, 1 gone, in the kernel: true"}
	if !slices.Equal(seen, want) {
		t.Errorf("got %q, want %q", seen, want)
	}
}

func TestNewClusterNetworksReachTheEngine(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	views := make(chan proxy.Node, 1)
	known := nodeView
	r.config = func(c *Config) {
		c.View = func() (proxy.Node, bool) {
			select {
			case known = <-views:
			default:
			}
			return known, true
		}
	}
	r.put(service("web", "172.30.0.1"))
	r.start().settled()
	wider := proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14"), netip.MustParsePrefix("10.200.0.0/16")}}
	views <- wider
	r.Wake()
	r.put(service("api", "172.30.0.2"))
	r.settled()
	if rules := r.ns.Run(t, "nft", "list", "ruleset"); !strings.Contains(rules, "10.200.0.0/16") {
		t.Errorf("the rules do not have the new network:\n%s", rules)
	}
}

// Whoever compares the switch must know of services though the engine takes its time.
func TestTheSwitchHearsOfServicesBeforeTheEngineIsDone(t *testing.T) {
	r := newRig(t, "nftables")
	r.config = func(c *Config) {
		c.Engines.Chosen = func(proxy.Node) (proxy.Engine, error) { return nil, errBroken }
	}
	r.put(service("web", "172.30.0.1"))
	r.start()
	select {
	case <-r.Begun():
	case <-soon(t).Done():
		t.Fatal("the switch heard nothing")
	}
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	if _, open := r.board.open[nameOf("shop/web")]; !open {
		t.Errorf("the switch has %v", r.board.open)
	}
}

// TestAuditsComeByThemselves, as often as the configuration says by then.
func TestAuditsComeByThemselves(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	r.config = func(c *Config) { c.Audit = time.Hour }
	r.put(service("web", "172.30.0.1"))
	r.start().settled()
	r.AuditEvery(time.Minute)
	r.AuditEvery(20 * time.Millisecond)
	r.ns.Run(t, "nft", "delete", "table", "ip", "damask_proxy")
	e, ctx := r.engine(), soon(t)
	for repaired := false; !repaired; repaired = strings.Contains(r.ns.Run(t, "nft", "list", "tables"), "damask_proxy") {
		if ctx.Err() != nil {
			t.Fatal("nobody noticed that the rules are gone")
		}
	}
	r.stop()
	if syncs, _, _ := e.counts(); syncs < 2 {
		t.Errorf("%d comparisons", syncs)
	}
}

// slow is an engine that takes its time to compare.
type slow struct{ proxy.Engine }

func (slow) Sync(ctx context.Context, _ proxy.State) (proxy.Changes, error) {
	<-ctx.Done()
	return proxy.Changes{}, nil
}

func TestAfterALongComparisonTheEngineRests(t *testing.T) {
	e := newEngine(Engines{Chosen: func(proxy.Node) (proxy.Engine, error) { return slow{}, nil }}, newMetrics(), hclog.NewNullLogger())
	if err := e.use(nodeView); err != nil {
		t.Fatal(err)
	}
	const long = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	began := time.Now()
	if _, err := e.program(ctx, newLedger(here, nil, false), false); err != nil {
		t.Fatal(err)
	}
	if rest := e.rested.Sub(began); rest < compareShare*long {
		t.Errorf("it rests for %v after a comparison of %v", rest, long)
	}
}
