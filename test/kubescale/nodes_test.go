package kubescale

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// BenchmarkNodesOnKubernetes measures how long it takes from an object to packets on four
// nodes, one object after the other; b.N says nothing.
func BenchmarkNodesOnKubernetes(b *testing.B) {
	l := newLab(b)
	p := l.populate()
	b.ResetTimer()
	l.podStartup()
	l.networkProgramming(p)
	l.policyCreation(p)
	l.namespaceCreation()
}

// people are the namespace of those who ask and answer.
const people = "people"

// Ports and what is said there.
const (
	port      = 8080
	firstPort = 10000 // of those that policies open, one each
	yes       = 'y'
	old, new  = 'o', 'n'
)

// silence is how long nobody answers where nobody may.
const silence = time.Second

// population is the pods of a lab: on each node one that asks and one that policies are for,
// and two that are endpoints.
type population struct {
	clients, guarded []*sandbox
	old, new         *sandbox
}

func (l *lab) directory(path string) string {
	l.Helper()
	all, err := filepath.Abs(path)
	if err != nil {
		l.Fatal(err)
	}
	return all
}

// create makes an object, and answers when that began and its UID.
func (l *lab) create(kind schema.GroupVersionResource, o *unstructured.Unstructured) (began time.Time, uid types.UID) {
	l.Helper()
	began = time.Now()
	made, err := l.admin.Resource(kind).Namespace(o.GetNamespace()).Create(context.Background(), o, metav1.CreateOptions{})
	if err != nil {
		l.Fatal(err)
	}
	return began, made.GetUID()
}

// aPod is a Pod that is bound to a node.
func aPod(namespace, name string, n *node, labels map[string]string) *unstructured.Unstructured {
	u := object("v1", "Pod", namespace, name, map[string]any{"spec": map[string]any{
		"nodeName": n.name, "containers": []any{map[string]any{"name": "program", "image": "none"}},
	}})
	u.SetLabels(labels)
	return u
}

// says writes into a Pod's status what a kubelet does, as far as a network needs it.
func (l *lab) says(s *sandbox) {
	l.Helper()
	status, err := json.Marshal(map[string]any{"status": map[string]any{
		"phase": "Running", "podIP": s.ip.String(), "podIPs": []any{map[string]any{"ip": s.ip.String()}},
	}})
	if err == nil {
		_, err = l.admin.Resource(pods).Namespace(s.namespace).Patch(context.Background(), s.name, types.MergePatchType, status, metav1.PatchOptions{}, "status")
	}
	if err != nil {
		l.Fatal(err)
	}
}

// ends takes a pod away.
func (l *lab) ends(s *sandbox) {
	l.Helper()
	if err := s.remove(); err != nil {
		l.Fatal(err)
	}
	now := int64(0)
	if err := l.admin.Resource(pods).Namespace(s.namespace).Delete(context.Background(), s.name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		l.Fatal(err)
	}
}

// attached calls a plugin until it does its part: a runtime tries again too.
func (l *lab) attached(s *sandbox) (at time.Time) {
	for end := time.Now().Add(limit); ; {
		at, _, err := s.add()
		if err == nil {
			return at
		}
		if time.Now().After(end) {
			l.Errorf("never attached: %v", err)
			return at
		}
	}
}

// resident makes a pod that is there until the end, and says something at a port.
func (l *lab) resident(n *node, name, app string, who byte, ports ...uint16) *sandbox {
	l.Helper()
	s := l.sandbox(n, l.ours(), people, name)
	_, uid := l.create(pods, aPod(people, name, n, map[string]string{"app": app}))
	s.uid = string(uid)
	l.attached(s)
	l.says(s)
	for _, port := range ports {
		stop, err := s.network().serve(port, who)
		if err != nil {
			l.Fatal(err)
		}
		l.Cleanup(stop)
	}
	return s
}

func (l *lab) populate() *population {
	l.Helper()
	l.create(namespaces, object("v1", "Namespace", "", people, nil))
	var opened []uint16
	for i := range count + 1 {
		opened = append(opened, firstPort+uint16(i))
	}
	p := &population{old: l.resident(l.nodes[0], "old", "endpoint", old, port), new: l.resident(l.nodes[1], "new", "endpoint", new, port)}
	for _, n := range l.nodes {
		p.clients = append(p.clients, l.resident(n, "client-"+n.name, "client", 0))
		p.guarded = append(p.guarded, l.resident(n, "guarded-"+n.name, "guarded", yes, opened...))
	}
	l.everywhere(func(i int) (time.Time, error) {
		return p.clients[i].network().ask(netip.AddrPortFrom(p.guarded[(i+1)%fourNodes].ip, firstPort), yes)
	})
	return p
}

// everywhere does something on all nodes at once, and answers when the last one had.
func (l *lab) everywhere(do func(i int) (time.Time, error)) (last time.Time) {
	l.Helper()
	var at [fourNodes]time.Time
	var all errgroup.Group
	for i := range l.nodes {
		all.Go(func() (err error) {
			at[i], err = do(i)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		l.Fatal(err)
	}
	for _, t := range at {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// inTurn does something with objects, one after the other: once answers when it began, when
// all nodes were done with it, and the object that a bare watch, measured beside it, tells of.
func (l *lab) inTurn(what string, told watch.EventType, kinds []schema.GroupVersionResource, once func(i int) (name string, began, done time.Time)) {
	l.Helper()
	gate := l.cluster.NewGate(l.B)
	seen := l.watched(l.through(gate), told, kinds...)
	name, _, _ := once(count) // The first finds nothing ready.
	l.heard(seen, name)
	before := l.spent(gate)
	var ours, bare []time.Duration
	for i := range count {
		name, began, done := once(i)
		ours, bare = append(ours, done.Sub(began)), append(bare, l.heard(seen, name).Sub(began))
	}
	l.report(what, before, l.spent(gate), count)
	l.times(what+"-", ours)
	l.times(what+"-watch-", bare)
}

// times reports the median and the 99th percentile.
func (l *lab) times(what string, all []time.Duration) {
	l.ReportMetric(ms(all, 50), what+"ms")
	l.ReportMetric(ms(all, 99), what+"p99-ms")
}

// podStartup measures the network's part of a Pod's start: until the plugin is done, and
// until the pod answers its node. The CNI project's plugin does the same in turns.
func (l *lab) podStartup() {
	l.Helper()
	gate := l.cluster.NewGate(l.B)
	seen := l.watched(l.through(gate), watch.Added, pods)
	n := l.nodes[0]
	round := func(p plugin, name string) (added, answered, told time.Duration) {
		s := l.sandbox(n, p, people, name)
		stop, err := s.network().serve(port, yes)
		if err != nil {
			l.Fatal(err)
		}
		defer stop()
		began, uid := l.create(pods, aPod(people, name, n, map[string]string{"app": "measured"}))
		s.uid = string(uid)
		heard := l.heard(seen, name) // as a kubelet does
		_, took, err := s.add()
		if err != nil {
			l.Fatal(err)
		}
		at, err := n.network().ask(netip.AddrPortFrom(s.ip, port), yes)
		if err != nil {
			l.Fatal(err)
		}
		l.says(s)
		l.ends(s)
		return took, at.Sub(began), heard.Sub(began)
	}
	ours, theirs := l.ours(), l.reference()
	round(ours, "first")
	round(theirs, "first-of-reference")
	before := l.spent(gate)
	var added, answered, watched, theirsAdded, theirsAnswered []time.Duration
	for i := range count {
		add, answer, watch := round(ours, fmt.Sprintf("pod-%d", i))
		added, answered, watched = append(added, add), append(answered, answer), append(watched, watch)
		add, answer, _ = round(theirs, fmt.Sprintf("reference-%d", i))
		theirsAdded, theirsAnswered = append(theirsAdded, add), append(theirsAnswered, answer)
	}
	l.report("pod", before, l.spent(gate), 2*count) // Both sides' Pods are told of.
	l.times("pod-add-", added)
	l.times("pod-add-bridge-", theirsAdded)
	l.times("pod-", answered)
	l.times("pod-bridge-", theirsAnswered)
	l.times("pod-watch-", watched)
}

// networkProgramming measures how long it takes until a new Service leads to its endpoint on
// all nodes, and to another one when its EndpointSlice has changed.
func (l *lab) networkProgramming(p *population) {
	l.Helper()
	endpoints := func(to *sandbox) []any {
		return []any{map[string]any{"addresses": []any{to.ip.String()}, "nodeName": to.node.name, "conditions": map[string]any{"ready": true},
			"targetRef": map[string]any{"kind": "Pod", "namespace": to.namespace, "name": to.name, "uid": to.uid}}}
	}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, 100, byte(1 + i)}) }
	answered := func(i int, who byte) time.Time {
		return l.everywhere(func(n int) (time.Time, error) {
			return p.clients[n].network().ask(netip.AddrPortFrom(address(i), 80), who)
		})
	}
	l.inTurn("service", watch.Added, []schema.GroupVersionResource{slicesKind, services}, func(i int) (string, time.Time, time.Time) {
		name := fmt.Sprintf("service-%d", i)
		began, _ := l.create(services, object("v1", "Service", people, name, map[string]any{"spec": map[string]any{
			"clusterIP": address(i).String(), "ports": []any{map[string]any{"port": int64(80), "targetPort": int64(port)}},
		}}))
		slice := object("discovery.k8s.io/v1", "EndpointSlice", people, name+"-slice", map[string]any{
			"addressType": "IPv4", "endpoints": endpoints(p.old), "ports": []any{map[string]any{"name": "", "port": int64(port), "protocol": "TCP"}},
		})
		slice.SetLabels(map[string]string{"kubernetes.io/service-name": name})
		l.create(slicesKind, slice)
		return slice.GetName(), began, answered(i, old)
	})
	l.inTurn("endpoint", watch.Modified, []schema.GroupVersionResource{slicesKind}, func(i int) (string, time.Time, time.Time) {
		name := fmt.Sprintf("service-%d-slice", i)
		changed, err := json.Marshal(map[string]any{"endpoints": endpoints(p.new)})
		if err != nil {
			l.Fatal(err)
		}
		began := time.Now()
		if _, err := l.admin.Resource(slicesKind).Namespace(people).Patch(context.Background(), name, types.MergePatchType, changed, metav1.PatchOptions{}); err != nil {
			l.Fatal(err)
		}
		return name, began, answered(i, new)
	})
}

// policyCreation measures how long it takes until a NetworkPolicy that allows something is in
// force on all nodes: the pods that it is for are closed otherwise.
func (l *lab) policyCreation(p *population) {
	l.Helper()
	guarded := map[string]any{"matchLabels": map[string]any{"app": "guarded"}}
	l.create(policies, object("networking.k8s.io/v1", "NetworkPolicy", people, "closed", map[string]any{"spec": map[string]any{"podSelector": guarded}}))
	l.everywhere(func(n int) (at time.Time, err error) {
		for err == nil { // until nobody answers any more
			at, err = p.clients[0].network().askFor(silence, netip.AddrPortFrom(p.guarded[n].ip, firstPort), yes)
		}
		return at, nil
	})
	l.inTurn("policy", watch.Added, []schema.GroupVersionResource{policies}, func(i int) (string, time.Time, time.Time) {
		name, opens := fmt.Sprintf("policy-%d", i), firstPort+i
		began, _ := l.create(policies, object("networking.k8s.io/v1", "NetworkPolicy", people, name, map[string]any{"spec": map[string]any{
			"podSelector": guarded,
			"ingress": []any{map[string]any{
				"from":  []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "client"}}}},
				"ports": []any{map[string]any{"protocol": "TCP", "port": int64(opens)}},
			}},
		}}))
		return name, began, l.everywhere(func(n int) (time.Time, error) {
			return p.clients[0].network().ask(netip.AddrPortFrom(p.guarded[n].ip, uint16(opens)), yes)
		})
	})
}

// namespaceCreation measures how long it takes until a new Namespace is of use on all nodes:
// until a pod of it is attached on each.
func (l *lab) namespaceCreation() {
	l.Helper()
	l.inTurn("namespace", watch.Added, []schema.GroupVersionResource{pods, namespaces}, func(i int) (string, time.Time, time.Time) {
		namespace := fmt.Sprintf("namespace-%d", i)
		var first []*sandbox
		for _, n := range l.nodes {
			first = append(first, l.sandbox(n, l.ours(), namespace, fmt.Sprintf("%s-%s", namespace, n.name)))
		}
		began, _ := l.create(namespaces, object("v1", "Namespace", "", namespace, nil))
		for n, s := range first {
			_, uid := l.create(pods, aPod(namespace, s.name, l.nodes[n], nil))
			s.uid = string(uid)
		}
		done := l.everywhere(func(n int) (time.Time, error) { return l.attached(first[n]), nil })
		for _, s := range first {
			l.ends(s)
		}
		return first[fourNodes-1].name, began, done
	})
}
