package lab

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// egressSteps is how long each history of egress IPs is.
const egressSteps = 25

// The nodes and the namespaces of a history, the addresses that these want, and a range
// that has the last three of them.
var (
	leavingNodes = []string{"node1", "node2", "node3", "node4"}
	leavers      = []string{"red", "green", "blue"}
	wantedIPs    = []string{"192.168.108.200", "192.168.108.201", "192.168.108.208", "192.168.108.209", "192.168.108.210"}
	placedFrom   = netip.MustParsePrefix("192.168.108.208/28")
)

// TestRandomHistoriesShowTheOutsideOnlyWhatTheyShould changes wishes, nodes and tenants at
// random, drains, kills and unplugs nodes, while every pod sends without a pause. A model
// that knows only what was asked for says from which address a packet may come at each
// moment; and no address may be at two machines at once.
func TestRandomHistoriesShowTheOutsideOnlyWhatTheyShould(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			h := newLeaving(t, seed)
			for i := range egressSteps {
				h.step()
				if t.Failed() {
					t.Fatalf("seed %d, after step %d:\n%s", seed, i+1, strings.Join(h.log, "\n"))
				}
			}
			h.judge()
			if t.Failed() {
				t.Logf("seed %d:\n%s", seed, strings.Join(h.log, "\n"))
			}
		})
	}
}

// leaving is a history, and the model of what it means.
type leaving struct {
	t      *testing.T
	c      *cluster
	random *rand.Rand
	log    []string
	end    func(t *testing.T) testimony

	wants   map[string][]string // namespace -> addresses
	lists   map[string][]string // node -> addresses
	ranges  map[string]bool     // node -> whether it has the range
	drained map[string]bool
	// allowed is from which addresses each namespace's packets may come, from when on.
	allowed []permission
}

// permission is what may be seen from a moment on.
type permission struct {
	from    time.Time
	sources map[string]map[string]bool // namespace -> addresses
}

func newLeaving(t *testing.T, seed uint64) *leaving {
	text := "nodes: [{name: node1}, {name: node2}, {name: node3}, {name: node4}]\nnamespaces: [{name: red}, {name: green}, {name: blue}]\npods:\n"
	for _, ns := range leavers {
		for _, n := range leavingNodes {
			text += fmt.Sprintf("- {namespace: %s, name: on-%s, node: %s}\n", ns, n, n)
		}
	}
	h := &leaving{
		t: t, c: up(t, text), random: rand.New(rand.NewPCG(seed, 1)),
		wants: map[string][]string{}, lists: map[string][]string{}, ranges: map[string]bool{}, drained: map[string]bool{},
	}
	h.end = h.c.witness()
	h.permit()
	for i := range leavers {
		for _, n := range leavingNodes {
			h.send(i, n)
		}
	}
	return h
}

func portOf(namespace int) string { return fmt.Sprint(7100 + namespace) }

// send lets a pod send; nobody answers, and nobody needs to: the witness sees it.
func (h *leaving) send(namespace int, node string) {
	h.c.start(inPod(leavers[namespace]+"/on-"+node), "series", "udp", outsideIP+":"+portOf(namespace), "20ms")
}

// may answers what the model allows now. A namespace without egress IPs leaves as the
// nodes of its pods do; one with egress IPs by these or not at all.
func (h *leaving) may() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for _, ns := range leavers {
		all[ns] = map[string]bool{}
		for _, ip := range h.wants[ns] {
			all[ns][ip] = true
		}
		if len(h.wants[ns]) == 0 {
			for _, n := range leavingNodes {
				all[ns][h.c.nodeIP(n)] = true
			}
		}
	}
	return all
}

func (h *leaving) permit() {
	h.allowed = append(h.allowed, permission{time.Now(), h.may()})
}

// during allows what was allowed before and what will be while a change is made; after
// it, which is in force everywhere then, only what is.
func (h *leaving) during(change func(), do func()) {
	both := h.may()
	change()
	for ns, sources := range h.may() {
		maps.Copy(both[ns], sources)
	}
	h.allowed = append(h.allowed, permission{time.Now(), both})
	do()
	h.permit()
}

func (h *leaving) do(args ...string) string {
	h.t.Helper()
	begun := time.Now()
	defer func() {
		h.log = append(h.log, fmt.Sprintf("%s to %s: %s", begun.Format("05.000"), time.Now().Format("05.000"), strings.Join(args, " ")))
	}()
	if args[0] == "lab" {
		return h.c.run(append(args, "--name", h.c.name)...)
	}
	return h.c.ctl(args...)
}

func (h *leaving) node() string { return leavingNodes[h.random.IntN(len(leavingNodes))] }

// step makes one change.
func (h *leaving) step() {
	switch h.random.IntN(10) {
	case 0, 1, 2:
		h.want()
	case 3, 4:
		h.offer()
	case 5:
		a, b := leavers[h.random.IntN(3)], leavers[h.random.IntN(3)]
		if a != b {
			h.do("pod-network", "join-projects", "--to", a, b)
		}
	case 6:
		h.do("pod-network", "isolate-projects", leavers[h.random.IntN(3)])
	case 7:
		n := h.node()
		verb := map[bool]string{false: "drain-egress", true: "restore-egress"}[h.drained[n]]
		h.drained[n] = !h.drained[n]
		h.do("node", verb, n)
	case 8:
		h.loseAndReturn("kill", "start")
	default:
		h.loseAndReturn("unplug", "plug")
	}
	h.compareHosts()
}

// want changes what a namespace wants to addresses that no other wants.
func (h *leaving) want() {
	ns := leavers[h.random.IntN(len(leavers))]
	var next []string
	for _, ip := range wantedIPs {
		free := true
		for other, list := range h.wants {
			free = free && (other == ns || !slices.Contains(list, ip))
		}
		if free && h.random.IntN(3) == 0 {
			next = append(next, ip)
		}
	}
	h.during(func() { h.wants[ns] = next }, func() {
		h.do("patch", "netnamespace", ns, "-p", fmt.Sprintf("{egressIPs: [%s]}", strings.Join(next, ", ")))
	})
}

// offer changes what a node may host.
func (h *leaving) offer() {
	n := h.node()
	h.lists[n], h.ranges[n] = nil, h.random.IntN(3) > 0
	for _, ip := range wantedIPs[:2] {
		if h.random.IntN(2) == 0 {
			h.lists[n] = append(h.lists[n], ip)
		}
	}
	cidrs := ""
	if h.ranges[n] {
		cidrs = placedFrom.String()
	}
	h.do("patch", "hostsubnet", n, "-p", fmt.Sprintf("{egressIPs: [%s], egressCIDRs: [%s]}", strings.Join(h.lists[n], ", "), cidrs))
}

// loseAndReturn takes a node away for a while that is enough for its addresses to move.
func (h *leaving) loseAndReturn(lose, back string) {
	n := h.node()
	h.do("lab", lose, n)
	h.c.soon(func() bool { return !strings.Contains(h.c.ctl("get", "egressips"), " "+n+" ") })
	h.do("lab", back, n)
	if back == "start" {
		for i := range leavers {
			h.send(i, n)
		}
	}
	h.c.eventually(h.t, n+" is ready", func() bool {
		out, err := h.c.try("--lab", h.c.name, "get", "nodes")
		return err == nil && strings.Count(out, " yes ") == len(leavingNodes)
	})
}

// compareHosts compares who hosts what with what may be, by the words of the API.
func (h *leaving) compareHosts() {
	h.t.Helper()
	h.c.soon(func() bool { return len(h.misplaced()) == 0 })
	for _, problem := range h.misplaced() {
		h.t.Error(problem)
	}
}

func (h *leaving) misplaced() (problems []string) {
	listed := map[string][]string{} // address -> nodes
	for n, ips := range h.lists {
		for _, ip := range ips {
			listed[ip] = append(listed[ip], n)
		}
	}
	automatic, of := map[string]int{}, map[string][]string{} // by node
	for line := range strings.Lines(h.c.ctl("get", "egressips")) {
		f := strings.Fields(line)
		if f[0] == "EGRESS" || f[3] != "hosted" {
			continue
		}
		ip, ns, node := f[0], f[1], f[4]
		switch {
		case !slices.Contains(h.wants[ns], ip):
			problems = append(problems, fmt.Sprintf("%s is %s's, which does not want it", ip, ns))
		case h.drained[node]:
			problems = append(problems, fmt.Sprintf("%s is hosted by %s, which is drained", ip, node))
		case len(listed[ip]) > 0 && !slices.Contains(listed[ip], node), len(listed[ip]) == 0 && (!placedFrom.Contains(netip.MustParseAddr(ip)) || !h.ranges[node]):
			problems = append(problems, fmt.Sprintf("%s is hosted by %s; listed by %v, ranges %v", ip, node, listed[ip], h.ranges))
		case slices.Contains(of[node], ns):
			problems = append(problems, fmt.Sprintf("%s hosts two of %s", node, ns))
		}
		of[node] = append(of[node], ns)
		if len(listed[ip]) == 0 {
			automatic[node]++
		}
	}
	return append(problems, h.unbalanced(automatic, of)...)
}

// unbalanced holds the stated rule against what nodes host: none has less than half of
// what another has, two less at least, and could take it from there.
func (h *leaving) unbalanced(automatic map[string]int, of map[string][]string) (problems []string) {
	nodes := h.c.ctl("get", "egressnodes")
	for _, n := range leavingNodes {
		if !h.ranges[n] || h.drained[n] || !upIn(nodes, n) {
			continue
		}
		for other, namespaces := range of {
			less := 2*len(of[n]) < len(namespaces) && len(of[n])+2 <= len(namespaces)
			if !less || automatic[other] < len(namespaces) { // of a mix, it is not known here what may go
				continue
			}
			for _, ns := range namespaces {
				if !slices.Contains(of[n], ns) {
					problems = append(problems, fmt.Sprintf("%s hosts %v, and %s %v", n, of[n], other, namespaces))
				}
			}
		}
	}
	return problems
}

// upIn says whether a node may host, in the words of "get egressnodes".
func upIn(nodes, name string) bool {
	for line := range strings.Lines(nodes) {
		if f := strings.Fields(line); f[0] == name {
			return f[1] == "up"
		}
	}
	return false
}

// judge holds everything that came out against the model.
func (h *leaving) judge() {
	h.t.Helper()
	h.permit()
	seen := h.end(h.t)
	for i, ns := range leavers {
		packets := 0
		for _, s := range seen.Arrived["udp "+portOf(i)] {
			packets += s.Packets
			h.judgeSpan(ns, s)
		}
		if packets == 0 {
			h.t.Errorf("%s: nothing came out at all", ns)
		}
		h.t.Logf("%s: %d packets came out, each looked at", ns, packets)
	}
	for _, moment := range seen.overlaps(wantedIPs...) {
		h.t.Error(moment)
	}
}

// judgeSpan complains when a namespace's packets came from where they might not, at any
// time between the first and the last.
func (h *leaving) judgeSpan(ns string, s span) {
	h.t.Helper()
	const slack = 100 * time.Millisecond // a packet on its way when the answer came
	first, last := time.UnixMicro(s.First), time.UnixMicro(s.Last)
	for i, p := range h.allowed {
		over := i+1 < len(h.allowed) && h.allowed[i+1].from.Before(first)
		if over || p.from.Add(slack).After(last) || p.sources[ns][s.Source] {
			continue
		}
		h.t.Errorf("%s: %d packets came from %s, between %s and %s; allowed from %s on were %v", ns, s.Packets, s.Source,
			first.Format("05.000"), last.Format("05.000"), p.from.Format("05.000"), slices.Sorted(maps.Keys(p.sources[ns])))
	}
}
