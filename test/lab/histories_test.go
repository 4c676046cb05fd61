package lab

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// steps is how long each history is; DAMASK_SEEDS names others to run
// ("7,8,9"), for a longer search or to repeat one.
const steps = 200

func seeds(t *testing.T) []uint64 {
	list := []uint64{1}
	if text := os.Getenv("DAMASK_SEEDS"); text != "" {
		list = nil
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.ParseUint(part, 10, 64)
			if err != nil {
				t.Fatalf("DAMASK_SEEDS: %v", err)
			}
			list = append(list, n)
		}
	}
	return list
}

const threeNodes = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1}, {name: node2}, {name: node3}]
`

func TestRandomHistoriesEndAsIfCompiledFromScratch(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			h := &history{
				c: up(t, threeNodes), t: t, random: rand.New(rand.NewPCG(seed, 0)),
				group: map[string]int{"default": 0}, pods: map[string]string{}, off: map[string]bool{}, mode: "multitenant", services: map[string]bool{},
			}
			for i := range steps {
				h.step()
				if i%40 == 39 {
					h.compare()
				}
				if t.Failed() {
					t.Fatalf("seed %d, after step %d:\n%s", seed, i+1, strings.Join(h.log, "\n"))
				}
			}
		})
	}
}

// history makes random changes and keeps a model of what they mean.
type history struct {
	c      *cluster
	t      *testing.T
	random *rand.Rand
	log    []string

	group map[string]int    // namespaces of one group share a VNID; 0 is global
	last  int               // the newest group
	pods  map[string]string // pod -> node
	made  int               // pods ever made, for names
	off   map[string]bool   // nodes without power
	mode  string

	services map[string]bool // NAMESPACE/NAME; each has port 80, and the pods of its namespace behind it
}

var nodeNames = []string{"node1", "node2", "node3"}

// step makes one change that makes sense at the moment.
func (h *history) step() {
	moves := []struct {
		weight int
		try    func() bool
	}{
		{6, h.addPod}, {4, h.deletePod}, {2, h.createNamespace}, {1, h.deleteNamespace},
		{4, h.join}, {3, h.isolate}, {2, h.makeGlobal}, {1, h.switchMode},
		{1, h.powerOff}, {3, h.powerOn}, {2, h.restartAgent},
		{4, h.createService}, {2, h.deleteService},
	}
	for {
		n := h.random.IntN(35)
		for _, m := range moves {
			if n -= m.weight; n < 0 {
				if m.try() {
					return
				}
				break
			}
		}
	}
}

func (h *history) do(args ...string) {
	h.t.Helper()
	h.log = append(h.log, strings.Join(args, " "))
	if args[0] == "lab" {
		h.c.run(append(args, "--name", h.c.name)...)
		return
	}
	h.c.ctl(args...)
}

// pick chooses among keys in a way that depends on the seed alone.
func pick[V any](h *history, from map[string]V, fits func(string) bool) (string, bool) {
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(from)) {
		if fits(k) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return "", false
	}
	return keys[h.random.IntN(len(keys))], true
}

func anyone(string) bool { return true }

func namespaceOf(pod string) string { ns, _, _ := strings.Cut(pod, "/"); return ns }

func (h *history) addPod() bool {
	ns, _ := pick(h, h.group, anyone)
	node := nodeNames[h.random.IntN(len(nodeNames))]
	if len(h.pods) >= 12 || h.off[node] {
		return false
	}
	h.made++
	name := fmt.Sprintf("%s/p%d", ns, h.made)
	h.do("lab", "pod", "add", name, "--node", node, "--label", "app=any")
	h.pods[name] = node
	return true
}

func (h *history) deletePod() bool {
	pod, ok := pick(h, h.pods, func(p string) bool { return !h.off[h.pods[p]] })
	if !ok {
		return false
	}
	h.do("lab", "pod", "delete", pod)
	delete(h.pods, pod)
	return true
}

// createService makes a service, also in a namespace that is not there: its tenants
// reach it when the namespace comes.
func (h *history) createService() bool {
	name := fmt.Sprintf("ns%d/s%d", h.random.IntN(6), h.random.IntN(3))
	if h.services[name] || len(h.off) > 0 {
		return false
	}
	h.do("service", "create", name, "--port", "80:"+port, "--selector", "app=any")
	h.services[name] = true
	return true
}

func (h *history) deleteService() bool {
	name, ok := pick(h, h.services, anyone)
	if !ok || len(h.off) > 0 {
		return false
	}
	h.do("service", "delete", name)
	delete(h.services, name)
	return true
}

func (h *history) createNamespace() bool {
	name := fmt.Sprintf("ns%d", h.random.IntN(6))
	if _, there := h.group[name]; there {
		return false
	}
	h.do("create", "netnamespace", name)
	h.group[name] = h.newGroup()
	return true
}

func (h *history) newGroup() int { h.last++; return h.last }

func (h *history) deleteNamespace() bool {
	name, ok := pick(h, h.group, func(ns string) bool {
		for pod := range h.pods {
			if namespaceOf(pod) == ns {
				return false
			}
		}
		return ns != "default"
	})
	// The registry hears of a pod's end a little later than the node; while a
	// node is off it does not hear at all.
	if !ok || len(h.off) > 0 {
		return false
	}
	h.do("delete", "netnamespace", name)
	delete(h.group, name)
	return true
}

func (h *history) tenants() bool { return h.mode == "multitenant" && len(h.off) == 0 }

func (h *history) join() bool {
	target, _ := pick(h, h.group, anyone)
	name, ok := pick(h, h.group, func(ns string) bool { return ns != target })
	if !ok || !h.tenants() {
		return false
	}
	h.do("pod-network", "join-projects", "--to", target, name)
	h.group[name] = h.group[target]
	return true
}

func (h *history) isolate() bool {
	name, ok := pick(h, h.group, func(ns string) bool { return ns != "default" })
	if !ok || !h.tenants() {
		return false
	}
	h.do("pod-network", "isolate-projects", name)
	h.group[name] = h.newGroup()
	return true
}

func (h *history) makeGlobal() bool {
	name, ok := pick(h, h.group, anyone)
	if !ok || !h.tenants() {
		return false
	}
	h.do("pod-network", "make-projects-global", name)
	h.group[name] = 0
	return true
}

func (h *history) switchMode() bool {
	if len(h.off) > 0 {
		return false
	}
	h.mode = map[string]string{"subnet": "multitenant", "multitenant": "subnet"}[h.mode]
	h.do("mode", "set", h.mode)
	return true
}

func (h *history) powerOff() bool {
	node := nodeNames[h.random.IntN(len(nodeNames))]
	if len(h.off) > 0 {
		return false
	}
	h.do("lab", "kill", node)
	h.off[node] = true
	return true
}

func (h *history) powerOn() bool {
	node, ok := pick(h, h.off, anyone)
	if !ok {
		return false
	}
	h.do("lab", "start", node)
	delete(h.off, node)
	return true
}

func (h *history) restartAgent() bool {
	node := nodeNames[h.random.IntN(len(nodeNames))]
	if h.off[node] {
		return false
	}
	h.do("lab", "kill", node, "nodeagent", "--signal", []string{"KILL", "TERM"}[h.random.IntN(2)])
	h.do("lab", "start", node, "nodeagent")
	return true
}

// compare holds everything against the model: VNIDs, flows, and packets.
func (h *history) compare() {
	h.t.Helper()
	for len(h.off) > 0 {
		h.powerOn()
	}
	h.c.refresh()
	h.compareVNIDs()
	for name := range h.services {
		h.c.settled(h.t, name, h.podsOf(namespaceOf(name)))
	}
	for _, n := range nodeNames {
		// A namespace is created without waiting for nodes that have services in it.
		h.c.soon(func() bool { return len(h.c.flowDifferences(h.t, n)) == 0 })
		h.c.wantFlowsFromScratch(h.t, n)
	}
	h.comparePackets()
}

// compareVNIDs wants equal VNIDs exactly where the model has equal groups.
func (h *history) compareVNIDs() {
	h.t.Helper()
	vnids := h.c.vnids()
	if len(vnids) != len(h.group) {
		h.t.Errorf("namespaces are %v, the model has %v", vnids, h.group)
	}
	for a, ga := range h.group {
		if (ga == 0) != (vnids[a] == 0) {
			h.t.Errorf("%s has VNID %d, and group %d in the model", a, vnids[a], ga)
		}
		for b, gb := range h.group {
			if (ga == gb) != (vnids[a] == vnids[b]) {
				h.t.Errorf("%s and %s have VNIDs %d and %d, groups %d and %d in the model", a, b, vnids[a], vnids[b], ga, gb)
			}
		}
	}
}

// compareService wants a connection to a service to be refused, which shows that it got
// there: no pod of a history listens. One of another tenant's is not answered.
func (h *history) compareService(from string, s pipeline.Service, r checkResult) {
	h.t.Helper()
	_, known := h.group[s.Namespace]
	want := h.mode == "subnet" || h.group[namespaceOf(from)] == 0 || known && mayTalk(h.group, namespaceOf(from), s.Namespace)
	if got := strings.Contains(r.Error, refused); got != want {
		h.t.Errorf("%s (%s) to service %s/%s: got there %t, want %t (%s)", from, h.pods[from], s.Namespace, s.Name, got, want, r.Error)
	}
}

// podsOf counts the pods of a namespace.
func (h *history) podsOf(namespace string) (n int) {
	for pod := range h.pods {
		if namespaceOf(pod) == namespace {
			n++
		}
	}
	return n
}

// comparePackets tries every pair of pods, and every pod with every service.
func (h *history) comparePackets() {
	h.t.Helper()
	services := h.c.services()
	names := slices.Sorted(maps.Keys(h.pods))
	for _, from := range names {
		var lines []string
		var to []string
		for _, other := range names {
			if other != from {
				lines = append(lines, fmt.Sprintf("icmp %s 56", h.c.podIP(other)))
				to = append(to, other)
			}
		}
		pods := len(lines)
		for _, s := range services {
			lines = append(lines, fmt.Sprintf("tcp %s:80 1", s.ClusterIPs[0]))
		}
		if len(lines) == 0 {
			return
		}
		results := h.c.check(inPod(from), lines...)
		for i, s := range services {
			h.compareService(from, s, results[pods+i])
		}
		for i, r := range results[:pods] {
			want := h.mode == "subnet" || mayTalk(h.group, namespaceOf(from), namespaceOf(to[i]))
			if r.OK != want {
				h.t.Errorf("%s (%s) to %s (%s): reached %t, want %t (%s)", from, h.pods[from], to[i], h.pods[to[i]], r.OK, want, r.Error)
			}
		}
	}
}
