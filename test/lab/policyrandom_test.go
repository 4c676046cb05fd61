package lab

import (
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

// How long nobody must have answered until what was not answered counts as "no", and how
// long those are asked again that should have been.
const (
	quietFor   = "250ms"
	patientFor = "3s"
)

// TestRandomPoliciesAreWhatTheOracleSays is the short one of the suites below.
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

// tally counts what was asked.
type tally struct{ sets, questions, allowed, again int }

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
		if i%max(1, sets/4) == 0 {
			w.enter(4 * i / sets)
		}
		began := time.Now()
		w.step()
		changed := time.Now()
		w.compare(t)
		t.Logf("set %d: changed in %s, asked in %s", i, changed.Sub(began).Round(time.Millisecond), time.Since(changed).Round(time.Millisecond))
	}
	t.Logf("%d sets of policies, %d questions, %d%% allowed; %d were asked again; %s a set", w.sets, w.tally.questions, 100*w.allowed/w.tally.questions, w.again,
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
	// The flows are in the switches; what these have cached of older ones goes now.
	for _, s := range w.shells {
		s.say(w.t, "ovs-appctl revalidator/wait && echo done")
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
	var all sync.WaitGroup
	var mu sync.Mutex
	var wrong []string
	for _, a := range w.wanted(t) {
		all.Go(func() {
			got, again, err := a.ask()
			mu.Lock()
			defer mu.Unlock()
			w.again += again
			if err != nil {
				wrong = append(wrong, err.Error())
				return
			}
			for i := range got {
				if got[i] != a.names[i] {
					wrong = append(wrong, fmt.Sprintf("%s to %s, %s %s: answered by %q, want %q", a.from.name, a.to[i].name, a.pairs[2*i], a.pairs[2*i+1], got[i], a.names[i]))
				}
			}
		})
	}
	all.Wait()
	if wrong != nil {
		cluster, _ := json.Marshal(w.objects())
		t.Fatalf("set %d: %d differences from what the oracle says of\n%s\n%s", w.sets, len(wrong), cluster, strings.Join(wrong[:min(20, len(wrong))], "\n"))
	}
}

// ask asks all, and those again, with patience, that should have been answered.
func (a *asking) ask() (got []string, again int, err error) {
	if got, err = a.from.ask(quietFor, a.pairs); err != nil {
		return nil, 0, err
	}
	var missing []int
	var pairs []string
	for i := range got {
		if got[i] == "" && a.names[i] != "" {
			missing, pairs = append(missing, i), append(pairs, a.pairs[2*i], a.pairs[2*i+1])
		}
	}
	if missing == nil {
		return got, 0, nil
	}
	late, err := a.from.ask(patientFor, pairs)
	for i := range late {
		got[missing[i]] = late[i]
	}
	return got, len(missing), err
}
