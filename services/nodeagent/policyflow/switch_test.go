package policyflow

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"pgregory.net/rapid"
)

// entry leads packets of two ports to the two directions' first tables.
func entry() []openflow.Flow {
	l := testLayout()
	return []openflow.Flow{
		{Priority: 1, Match: openflow.Any().InPort(1), Actions: []openflow.Action{openflow.Goto(l.Egress.Admin)}},
		{Priority: 1, Match: openflow.Any().InPort(2), Actions: []openflow.Action{openflow.Goto(l.Ingress.Admin)}},
	}
}

func startSwitch(t *testing.T) *ovstest.Switch {
	t.Helper()
	sw := ovstest.Start(t, ovstest.Options{})
	sw.AddBridge(t, "br0")
	for _, port := range []int{1, 2, acceptedEgress, acceptedIngress} {
		name := fmt.Sprint("p", port)
		sw.Vsctl(t, "add-port", "br0", name, "--", "set", "Interface", name, "type=dummy", fmt.Sprintf("ofport_request=%d", port))
	}
	return sw
}

func install(t *testing.T, sw *ovstest.Switch, flows []openflow.Flow) {
	t.Helper()
	var text strings.Builder
	for _, f := range flows {
		text.WriteString(strings.ReplaceAll(f.String(), ", ", ",") + "\n")
	}
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	sw.Ofctl(t, "replace-flows", "br0", file)
}

var outcome = regexp.MustCompile(`(?m)^Datapath actions: (.*)$`)

// traced answers whether a real switch lets a packet through.
func traced(t *testing.T, sw *ovstest.Switch, q policy.Traffic) bool {
	t.Helper()
	p := packetOf(q)
	in := 1
	if q.Direction == policy.Ingress {
		in = 2
	}
	names := map[policy.Protocol]string{policy.TCP: "tcp", policy.UDP: "udp", policy.SCTP: "sctp", 1: "icmp"}
	question := fmt.Sprintf("in_port=%d,%s,nw_src=%s,nw_dst=%s", in, names[p.protocol], p.src, p.dst)
	if p.protocol != 1 {
		question += fmt.Sprintf(",%s_dst=%d", names[p.protocol], p.port)
	}
	got := outcome.FindStringSubmatch(sw.Appctl(t, "ofproto/trace", "br0", question))
	if got == nil {
		t.Fatalf("no answer to %s", question)
	}
	return got[1] != "drop"
}

// TestARealSwitchDecidesAsTheRulesSay asks a sample: each question is a process.
func TestARealSwitchDecidesAsTheRulesSay(t *testing.T) {
	sw := startSwitch(t)
	asked, allowed := 0, 0
	for seed := range 12 {
		w, have := example(t, seed)
		install(t, sw, append(append(have.flows(), testLayout().Base().Flows...), entry()...))
		for _, p := range w.pods {
			var applied []*policy.Policy
			for _, key := range p.Policies {
				one := w.policies[key]
				applied = append(applied, &one)
			}
			all := questions(&p)
			for i := seed; i < len(all); i += 17 {
				want := policy.Decide(all[i], applied, w.groups)
				if got := traced(t, sw, all[i]); got != want.Allowed {
					t.Errorf("example %d: %+v: the switch says %v, the rules %+v", seed, packetOf(all[i]), got, want)
				}
				if asked++; want.Allowed {
					allowed++
				}
			}
		}
	}
	t.Logf("%d questions, to %d of which the answer was yes", asked, allowed)
	if asked < 200 || allowed < asked/10 || allowed > asked*19/20 {
		t.Error("the examples ask for too little")
	}
}

// example is what the property test would draw from a seed.
func example(t *testing.T, seed int) (*told, fragments) {
	t.Helper()
	type drawn struct {
		w    *told
		have fragments
	}
	d := rapid.Custom(func(t *rapid.T) drawn {
		w := &told{policy.Groups{}, map[policy.Key]policy.Policy{}, map[string]policy.Pod{}}
		b, err := New(testLayout())
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range groupIDs {
			w.setGroup(t, b, id)
		}
		for i := range 5 {
			p := drawPolicy(t)
			p.Key.Name = fmt.Sprint("p", i)
			w.policies[p.Key] = p
		}
		for range 3 {
			p := drawPod(t)
			w.pods[p.Name] = p
		}
		return drawn{w, w.again(t, 32)}
	}).Example(seed)
	return d.w, d.have
}

// TestASwitchTakesAddressesThatManyRulesName finds how many clauses one flow can
// have: as many rules on one node can name one address.
func TestASwitchTakesAddressesThatManyRulesName(t *testing.T) {
	sw := startSwitch(t)
	ctx := t.Context()
	c, err := openflow.Dial(ctx, sw.MgmtSocket("br0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b, have := newBook(t), fragments{}
	pod := policy.Pod{Namespace: "n", Name: "p", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	b.SetGroup("g", []policy.Member{{Addr: netip.MustParseAddr("10.0.0.2")}})
	for i := range MaxClauses {
		p := policy.Policy{Key: policy.Key{Kind: "N", Name: fmt.Sprint(i)}, Tier: policy.Namespace, Ingress: true, Rules: []policy.Rule{
			{Direction: policy.Ingress, Action: policy.Allow, AnyPort: true, Peers: []policy.Peer{{Group: "g"}}}}}
		if err := b.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
		pod.Policies = append(pod.Policies, p.Key)
	}
	b.SetPod(pod)
	have.apply(b.Drain())
	var mods []openflow.Mod
	for _, f := range have.flows() {
		mods = append(mods, openflow.Mod{Command: openflow.Add, Flow: f})
	}
	if err := c.Bundle(ctx, mods); err != nil {
		t.Fatal(err)
	}
	q := policy.Traffic{Direction: policy.Ingress, Pod: &pod, Peer: netip.MustParseAddr("10.0.0.2"), Protocol: policy.TCP, Port: 80}
	install := adds(append(testLayout().Base().Flows, entry()...))
	if err := c.Bundle(ctx, install); err != nil {
		t.Fatal(err)
	}
	if !traced(t, sw, q) {
		t.Error("the rules allow, and the switch does not")
	}
}

func adds(flows []openflow.Flow) []openflow.Mod {
	var mods []openflow.Mod
	for _, f := range flows {
		mods = append(mods, openflow.Mod{Command: openflow.Add, Flow: f})
	}
	return mods
}
