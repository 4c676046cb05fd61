package policyoracle

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
)

// clusters is how many are drawn in each test, unless -rapid.checks says it.
const clusters = "300"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", clusters); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// drawWorld draws a cluster and tells it to a resolver.
func drawWorld(t *rapid.T, o *ours, tiers bool) *world {
	w := &world{map[string]*v1.Namespace{}, map[string]*v1.Pod{}, map[string]*networkingv1.NetworkPolicy{}, map[string]*npav1alpha1.AdminNetworkPolicy{}, nil}
	for i := range rapid.IntRange(1, 4).Draw(t, "policies") {
		w.setPolicy(t, o, i, tiers)
	}
	for i := range rapid.IntRange(2, 5).Draw(t, "pods") {
		w.setPod(t, o, i)
	}
	for _, name := range spaceNames {
		w.setSpace(t, o, name)
	}
	if tiers {
		for i := range rapid.IntRange(1, 3).Draw(t, "admin policies") {
			w.setAdmin(t, o, i)
		}
		w.baseline = drawBaseline(t)
		must(t, o.tell(w.baseline))
	}
	return w
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) setPolicy(t *rapid.T, o *ours, n int, both bool) {
	p := drawPolicy(t, n, both)
	w.policies[p.Namespace+"/"+p.Name] = p
	must(t, o.tell(p))
}

func (w *world) setAdmin(t *rapid.T, o *ours, n int) {
	p := drawAdmin(t, n)
	w.admin[p.Name] = p
	must(t, o.tell(p))
}

func (w *world) setSpace(t *rapid.T, o *ours, name string) {
	n := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: drawLabels(t)}}
	w.spaces[name] = n
	must(t, o.tell(n))
}

// setPod draws pod n anew. If it moves to another namespace it is another pod, with the
// same address.
func (w *world) setPod(t *rapid.T, o *ours, n int) {
	for key, p := range w.pods {
		if p.Name == fmt.Sprint("p", n) {
			delete(w.pods, key)
			o.resolver.DeletePod(p.Namespace, p.Name)
		}
	}
	p := drawPod(t, n)
	w.pods[p.Namespace+"/"+p.Name] = p
	must(t, o.tell(p))
}

// change makes one thing in the world another.
func (w *world) change(t *rapid.T, o *ours, tiers bool) {
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0:
		w.setPod(t, o, rapid.IntRange(0, 5).Draw(t, "pod"))
	case 1:
		w.setSpace(t, o, rapid.SampledFrom(spaceNames).Draw(t, "namespace"))
	case 2:
		w.setPolicy(t, o, rapid.IntRange(0, 3).Draw(t, "policy"), tiers)
	case 3:
		for _, key := range slices.Sorted(maps.Keys(w.policies))[:min(1, len(w.policies))] {
			p := w.policies[key]
			delete(w.policies, key)
			o.resolver.DeletePolicy(policy.Key{Kind: "NetworkPolicy", Namespace: p.Namespace, Name: p.Name})
		}
	case 4:
		// A pod completes: for us it is gone, and nobody has its address.
		for _, key := range slices.Sorted(maps.Keys(w.pods))[:min(1, len(w.pods))] {
			p := w.pods[key]
			delete(w.pods, key)
			o.resolver.DeletePod(p.Namespace, p.Name)
		}
	case 5:
		if tiers {
			w.setAdmin(t, o, rapid.IntRange(0, 2).Draw(t, "admin policy"))
		}
	}
}

func check(t *testing.T, tiers bool) {
	worlds, questions, allowed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := newOurs()
		w := drawWorld(t, o, tiers)
		for range 3 {
			o.follow()
			n, yes, err := w.compare(o)
			if err != nil {
				t.Fatal(err)
			}
			worlds, questions, allowed = worlds+1, questions+n, allowed+yes
			w.change(t, o, tiers)
		}
	})
	t.Logf("%d states of clusters, %d questions, to %d%% of which the answer was yes", worlds, questions, 100*allowed/questions)
	if allowed < questions/10 || allowed > questions*9/10 {
		t.Error("the clusters that were drawn ask for too little")
	}
}

func TestNetworkPoliciesMeanWhatTheOracleSays(t *testing.T) { check(t, false) }

func TestTiersMeanWhatTheOracleSays(t *testing.T) { check(t, true) }
