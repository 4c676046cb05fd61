package lab

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long nobody must have answered until what should have been answered counts
// as "no": DAMASK_PATIENCE, or 3 s. quiet is after how long the rest does. It is short, so
// that few questions are left to wait for.
func patience(t *testing.T) (quiet, patient string) {
	t.Helper()
	patience, err := time.ParseDuration(cmp.Or(os.Getenv("DAMASK_PATIENCE"), "3s"))
	if err != nil {
		t.Fatalf("DAMASK_PATIENCE: %v", err)
	}
	return max(250*time.Millisecond, patience/40).String(), patience.String()
}

// TestRandomPoliciesAreWhatTheOracleSays is the short one of the two.
func TestRandomPoliciesAreWhatTheOracleSays(t *testing.T) { wantOracle(t, 20) }

// TestManyRandomPoliciesAreWhatTheOracleSays draws 300 clusters, or DAMASK_SETS, each a
// change of the one before, and asks the oracle and the wire about every two places in each.
func TestManyRandomPoliciesAreWhatTheOracleSays(t *testing.T) {
	sets := uint64(300)
	readNumber(t, "DAMASK_SETS", &sets)
	wantOracle(t, int(sets))
}

// readNumber reads a variable of the environment, if it is there.
func readNumber(t *testing.T, name string, number *uint64) {
	t.Helper()
	if given := os.Getenv(name); given != "" {
		var err error
		if *number, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// tally counts what was asked: how much of it again since no answer came at first, and how
// much since one came that should not, from what a switch had cached.
type tally struct{ sets, questions, allowed, again, late int }

func wantOracle(t *testing.T, sets int) {
	seed := uint64(time.Now().UnixNano())
	readNumber(t, "DAMASK_SEED", &seed)
	t.Logf("DAMASK_SEED=%d", seed)
	judge := startJudge(t)
	w := &policyWorld{cluster: up(t, randomTopology), judge: judge, spaces: map[string]map[string]string{}, pods: make([]*randomPod, randomPods),
		outside: map[string]*resident{}, policies: map[string]object{}, admin: map[string]object{}, written: map[string]string{}}
	w.policyDraw = policyDraw{Rand: rand.New(rand.NewPCG(seed, 0)), protocols: []string{"TCP", "UDP"}}
	if noSCTP() == "" {
		w.protocols = append(w.protocols, "SCTP")
	}
	w.populate()
	start := time.Now()
	for i := range sets {
		// A quarter of the run each: with tiers or not, in one mode or the other.
		if part := 4 * i / sets; i == 0 || part != 4*(i-1)/sets {
			w.enter(part)
		}
		began := time.Now()
		w.step()
		changed := time.Now()
		w.compare(t)
		t.Logf("set %d: changed in %s, asked in %s", i, changed.Sub(began).Round(time.Millisecond), time.Since(changed).Round(time.Millisecond))
	}
	t.Logf("%d sets of policies, %d questions, %d%% allowed; %d were asked again, %d passed a moment too long; %s a set", w.sets, w.tally.questions, 100*w.allowed/w.tally.questions, w.again, w.late,
		(time.Since(start) / time.Duration(sets)).Round(time.Millisecond))
	if w.allowed < w.tally.questions/10 || w.allowed > w.tally.questions*9/10 {
		t.Error("the policies that were drawn ask for too little")
	}
}

// populate starts pods and probes, and learns where they are.
func (w *policyWorld) populate() {
	for _, name := range []string{"outside", "partner"} {
		w.outside[name] = w.reside(onOutside(name), name, w.outsideIP(name))
	}
	for n := range w.pods {
		w.addPod(n)
	}
	for _, node := range []string{"node1", "node2"} {
		w.shells = append(w.shells, w.converse(onNode(node), "sh"))
	}
	w.cluster.policyBlocks(&w.policyDraw, w.pods)
}

// policyBlocks are the networks of this cluster of which policies may speak.
func (c *cluster) policyBlocks(d *policyDraw, pods []*randomPod) {
	d.cluster = "10.128.0.0/14"
	for _, n := range c.known().GetNodes() {
		d.exceptions = append(d.exceptions, n.GetSubnet())
	}
	for _, p := range pods[:4] {
		d.exceptions = append(d.exceptions, p.at.ip+"/32", p.at.ip+"/30")
	}
	d.blocks = append(slices.Clip(d.exceptions), "192.168.108.0/24", "192.168.108.1/32", "192.168.108.2/31", "fd00::/8")
}

// enter begins a part of the run.
func (w *policyWorld) enter(part int) {
	w.tiers = part%2 == 1
	if combined := part >= 2; combined != w.combined {
		w.ctl("mode", "set", "combined")
		w.ctl("pod-network", "join-projects", "--to", "x", "y")
		w.combined = combined
	}
	for _, name := range slices.Sorted(maps.Keys(w.admin)) {
		w.deleteAdmin(name)
	}
	if len(w.policies) > 0 {
		w.ctl(append([]string{"policy", "delete"}, slices.Sorted(maps.Keys(w.policies))...)...)
		clear(w.policies)
	}
	w.setPolicies(3)
	if w.tiers {
		w.setAdmin()
		w.setAdmin()
	}
}

// step changes one thing, or several, and returns when that is in force.
func (w *policyWorld) step() {
	for range 1 + w.IntN(2) {
		switch draw := w.IntN(20); {
		case w.tiers && draw < 6:
			w.setAdmin()
		case draw < 9:
			w.setPolicies(1 + w.IntN(2))
		case draw < 11:
			w.deletePolicy()
		case draw < 14:
			w.labelSpace()
		case draw < 19:
			w.labelPod()
		default:
			w.replacePod()
		}
	}
	w.settle()
}

// settle returns when the switches, in which the new flows are, have looked at all that they
// have cached of older ones. A wait ends with the round that is under way, which may have
// begun before: so there are two.
func (w *policyWorld) settle() {
	for _, s := range w.shells {
		s.say(w.t, "ovs-appctl revalidator/wait && ovs-appctl revalidator/wait && echo done")
	}
	for _, s := range w.shells {
		if line := s.hear(w.t); line != "done" {
			w.t.Fatalf("%s: revalidator/wait said %q", s.at, line)
		}
	}
}

// asking is what one place asks, and who should answer.
type asking struct {
	from  *resident
	names []string // Who should answer, "" nobody.
	got   []string // Who did.
	pairs []string
	to    []*resident
}

// wanted pairs every place with every other one, and lets the oracle say what should
// be.
func (w *policyWorld) wanted(t *testing.T) []*asking {
	t.Helper()
	places := []*resident{w.outside["outside"], w.outside["partner"]}
	spaces := map[*resident]string{}
	for _, p := range w.pods {
		places = append(places, p.at)
		spaces[p.at] = p.namespace
	}
	var all []*asking
	var questions []object
	for _, from := range places {
		a := &asking{from: from}
		for _, to := range places {
			if from == to || from.at.kind == "outside" && to.at.kind == "outside" {
				continue
			}
			for _, protocol := range w.protocols {
				for _, port := range drawnPorts {
					questions = append(questions, object{"from": from.ip, "to": to.ip, "protocol": protocol, "port": port})
					a.pairs = append(a.pairs, strings.ToLower(protocol), fmt.Sprintf("%s:%d", to.ip, port))
					a.to = append(a.to, to)
				}
			}
		}
		a.names = make([]string, len(a.to))
		all = append(all, a)
	}
	allowed := w.judge.allows(t, w.objects(), questions)
	for _, a := range all {
		for i, to := range a.to {
			if allowed[i] && !w.apart(spaces[a.from], spaces[to]) {
				a.names[i] = to.name
				w.allowed++
			}
			w.tally.questions++
		}
		allowed = allowed[len(a.to):]
	}
	return all
}

// apart says whether VNIDs keep two namespaces apart; outside is none.
func (w *policyWorld) apart(a, b string) bool {
	return w.combined && a != "" && b != "" && (a == "z") != (b == "z")
}

// compare asks everything on the wire.
func (w *policyWorld) compare(t *testing.T) {
	t.Helper()
	w.sets++
	all := w.wanted(t)
	passed := 0
	w.each(all, func(a *asking) {
		again := 0
		a.got, again = a.ask(t)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.again += again
		passed += len(a.where(func(got, want string) bool { return got != "" && want == "" }))
	})
	if passed > 0 {
		w.late += passed
		w.settle()
		w.each(all, func(a *asking) {
			quiet, _ := patience(t)
			a.repeat(t, quiet, a.where(func(got, want string) bool { return got != "" && want == "" }))
		})
	}
	var wrong []string
	for _, a := range all {
		for _, i := range a.where(func(got, want string) bool { return got != want }) {
			if wrong == nil {
				t.Log(w.evidence(a.from.ip, a.to[i].ip))
			}
			_, port, _ := strings.Cut(a.pairs[2*i+1], ":")
			says, _ := w.try("--lab", w.name, "policy", "explain", a.from.ip, a.to[i].ip, port+"/"+a.pairs[2*i])
			if wrong = append(wrong, fmt.Sprintf("%s to %s, %s %s: answered by %q, want %q; explained as %s",
				a.from.name, a.to[i].name, a.pairs[2*i], a.pairs[2*i+1], a.got[i], a.names[i], says)); len(wrong) == 8 {
				break
			}
		}
	}
	if wrong != nil {
		cluster, _ := json.Marshal(w.objects())
		t.Fatalf("set %d differs from what the oracle says of\n%s\n%s", w.sets, cluster, strings.Join(wrong, "\n"))
	}
}

// evidence is what the switches have at the moment that is about two addresses: what they have
// cached, which connections they know, and whether their flows are those that the agents want.
func (w *policyWorld) evidence(from, to string) string {
	var text strings.Builder
	for _, node := range []string{"node1", "node2"} {
		for _, what := range []string{"dpctl/dump-flows -m", "dpctl/dump-conntrack"} {
			out, err := w.command(onNode(node), "sh", "-c", fmt.Sprintf("ovs-appctl %s | grep -F %s | grep -F %s", what, from, to)).Output()
			fmt.Fprintf(&text, "%s: %s (%v):\n%s", node, what, err, out)
		}
		flows, err := w.command(onNode(node), "sh", "-c", "ovs-ofctl -O OpenFlow13 --no-stats dump-flows br0 | grep -E 'table=(2[1-8]|8[0-6])'").Output()
		fmt.Fprintf(&text, "%s: flows of policies (%v):\n%s", node, err, flows)
		audit, err := w.try("--lab", w.name, "audit", node)
		fmt.Fprintf(&text, "%s: audit (%v): %s\n", node, err, audit)
	}
	return text.String()
}

// each does something for every place at once.
func (w *policyWorld) each(all []*asking, do func(*asking)) {
	var working sync.WaitGroup
	for _, a := range all {
		working.Go(func() { do(a) })
	}
	working.Wait()
}

// where lists the questions of whose answers something holds.
func (a *asking) where(holds func(got, want string) bool) (all []int) {
	for i := range a.got {
		if holds(a.got[i], a.names[i]) {
			all = append(all, i)
		}
	}
	return all
}

// ask asks all, and those again, with patience, that should have been answered.
func (a *asking) ask(t *testing.T) (got []string, again int) {
	quiet, patient := patience(t)
	got, err := a.from.ask(quiet, a.pairs)
	if err != nil {
		t.Error(err)
		return make([]string, len(a.names)), 0
	}
	a.got = got
	missing := a.where(func(got, want string) bool { return got == "" && want != "" })
	a.repeat(t, patient, missing)
	return a.got, len(missing)
}

// repeat asks some questions again.
func (a *asking) repeat(t *testing.T, quiet string, which []int) {
	if len(which) == 0 {
		return
	}
	var pairs []string
	for _, i := range which {
		pairs = append(pairs, a.pairs[2*i], a.pairs[2*i+1])
	}
	answers, err := a.from.ask(quiet, pairs)
	if err != nil {
		t.Error(err)
		return
	}
	for k, i := range which {
		a.got[i] = answers[k]
	}
}
